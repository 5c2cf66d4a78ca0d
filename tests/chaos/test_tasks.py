"""The load of tasks: of a correct pool nothing is said, wherever its tasks are cancelled; a bad pool is accused."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter

import pytest
from fakes import Error
from unit.awaiting import AwaitedDriver

from .events import Journal, read
from .history import check
from .leftovers import balance
from .loop import LoopScene
from .loopfaults import block, cancel
from .scene import MAXCONN, within
from .tasks import TaskLoad, TaskWorker

TURNS = 60  # of all workers together
PATIENCE = 20.0  # seconds


class Database(AwaitedDriver):
    """Keeps the tokens that were committed. Its connections have what the census gives to others."""

    def __init__(self):
        super().__init__(steps=2)
        self.committed = []

    async def connect(self, *args, **kwargs):
        conn = await super().connect(*args, **kwargs)
        conn.serial, conn.pid = conn.number, 1000 + conn.number
        return conn

    async def commit(self, conn):
        await super().commit(conn)
        self.committed.append(conn.holder)


class FakeDriver:
    """How the load speaks with it."""

    error = Error

    def __init__(self):
        self.connector = Database()

    def connect(self, census):
        return self.connector

    def dsn(self, way, name):
        return way

    def left(self, conn):
        return "busy" if conn.status else None

    async def write(self, conn, token):
        await asyncio.sleep(0)
        conn.execute()
        conn.holder = token

    async def read(self, conn, token):
        await asyncio.sleep(0)
        return [conn.holder, conn.holder, conn.pid]

    async def commit(self, conn):
        await self.connector.commit(getattr(conn, "_conn", conn))  # a proxy is for users

    async def fail(self, conn):
        await asyncio.sleep(0)

    async def leave_autocommit(self, conn):
        conn.color = "red"


class FakeScene(LoopScene):
    """One without a server."""

    def __init__(self, journal, seed):
        self.driver = FakeDriver()
        super().__init__(None, None, journal, seed)

    def way(self):
        return "nowhere"


@pytest.fixture
def scene(tmp_path, request):
    with Journal(tmp_path, LoopScene.who) as journal, FakeScene(journal, getattr(request, "param", 0)) as scene:
        scene.open_pool()
        yield scene


def judged(scene):
    """Balance the accounts, end the pool; return the rules that were broken, and how often."""
    scene.backends = scene.census.open_pids = lambda: set(range(scene.pool.stats().size))  # there is no server
    balance(scene)
    scene.pool.close()
    assert scene.count_tasks() == 0
    scene.journal.end()
    found = [*scene.violations, *check(read(scene.journal.folder), scene.driver.connector.committed)]
    return Counter(violation.rule for violation in found)


def turned(load, turns=TURNS):
    assert within(PATIENCE, lambda: sum(worker.turns for worker in load.workers) >= turns)


def run(scene, disturb=lambda load: None):
    """Have the load make some turns, and be disturbed."""
    load = TaskLoad(scene)
    load.start()
    turned(load)
    disturb(load)
    turned(load, 2 * TURNS)
    load.stop(PATIENCE)
    return load


@pytest.mark.parametrize("scene", range(3), indirect=True)
def test_a_good_pool_is_not_accused_wherever_its_tasks_are_cancelled(scene):
    load = run(scene, lambda load: cancel(scene, load))
    assert judged(scene) == {}
    assert scene.driver.connector.most <= MAXCONN
    assert sum(worker.interrupts for worker in load.workers) > 10


def test_a_block_is_no_violation(scene, monkeypatch):
    monkeypatch.setattr("chaos.loopfaults.QUIET", 0.0)
    run(scene, lambda load: block(scene, load))
    assert judged(scene) == {}
    assert [event.op for event in read(scene.journal.folder)].count("blocked") == 1


def test_a_pool_that_lends_one_connection_twice_is_accused(scene):
    lent = []
    getconn = scene.awaited.getconn

    async def lend_again(*args, **kwargs):
        conn = await getconn(*args, **kwargs)
        lent.append(conn)
        if len(lent) == TURNS:
            await scene.awaited.putconn(conn)
        return conn

    scene.awaited.getconn = lend_again
    run(scene)
    assert {"two holders", "putconn raised"} & set(judged(scene))


def test_a_commit_that_is_acknowledged_and_lost_is_accused(scene):
    commit = scene.driver.connector.commit

    async def lose(conn):
        await commit(conn)
        scene.driver.connector.committed.pop()

    run(scene, lambda load: setattr(scene.driver.connector, "commit", lose))
    assert set(judged(scene)) == {"lost token"}


def test_a_pool_that_holds_up_who_is_cancelled_is_accused(scene, monkeypatch):
    monkeypatch.setattr("chaos.tasks.AT_ONCE", 0.01)
    getconn = scene.awaited.getconn

    async def hold_up(*args, **kwargs):
        try:
            return await getconn(*args, **kwargs)
        except asyncio.CancelledError:
            time.sleep(0.02)  # noqa: ASYNC251 (that is what is wrong with it)
            raise

    scene.awaited.getconn = hold_up
    run(scene, lambda load: cancel(scene, load))
    assert "cancelled late" in judged(scene)


@pytest.mark.filterwarnings("ignore:.*dropped without putconn:ResourceWarning")
def test_a_pool_whose_cancelled_callers_keep_what_they_were_given_is_accused(scene):
    """It is found where it was dropped, so that no slot is lost."""
    scene.driver.connector.keep = False
    scene.driver.connector.made.clear()
    getconn = scene.awaited.getconn

    async def keep(*args, **kwargs):
        conn = await getconn(*args, **kwargs)
        await asyncio.sleep(0.01)
        return conn

    scene.awaited.getconn = keep
    run(scene, lambda load: cancel(scene, load))
    assert "dropped" in judged(scene)


def test_a_pool_that_takes_a_block_for_a_loss_is_accused(scene, monkeypatch):
    seen = itertools.count()
    monkeypatch.setattr("chaos.loopfaults.evicted", lambda scene: next(seen))
    monkeypatch.setattr("chaos.loopfaults.QUIET", 0.0)
    run(scene, lambda load: block(scene, load))
    assert set(judged(scene)) == {"evicted"}


def test_a_turn_that_crashes_is_accused_and_the_next_begins(scene):
    async def crash(conn, token):
        del scene.driver.read
        raise KeyError(token)

    scene.driver.read = crash
    run(scene)
    assert judged(scene)["crash"] == 1


def test_who_does_not_stop_is_accused_with_where_it_stands(scene):
    held = scene.call_in_loop(asyncio.Event)  # on CPython 3.9 it belongs to the loop in which it is made

    async def hang(conn):
        await held.wait()

    scene.driver.commit = hang
    load = TaskLoad(scene)
    load.start()
    turned(load, len(load.workers))
    assert within(PATIENCE, lambda: scene.pool.stats().waiting)
    load.stop(0.1)
    texts = [violation.text for violation in scene.violations]
    assert any("hang:" in text for text in texts), texts
    scene.call_in_loop(held.set)
    assert within(PATIENCE, lambda: not any(worker.task for worker in load.workers))


def test_a_task_of_wait_for_stands_in_line_as_its_worker(scene):
    lines = []
    held = [scene.pool.getconn() for _ in range(MAXCONN)]
    worker = TaskWorker(scene, "hurried", 7)
    worker.rng = random.Random(0)
    worker.rng.choice = lambda choices: PATIENCE

    def look():
        lines.append([scene.number_of(waiter.ident) for waiter in scene.awaited._state.waiters])

    def stand():
        worker.task = asyncio.ensure_future(worker._use(1, "hurried"))

    scene.call_in_loop(worker.context.run, stand)
    assert within(PATIENCE, lambda: scene.look(look) or lines[-1])
    assert lines[-1] == [7]
    for conn in held:
        scene.pool.putconn(conn)
    assert within(PATIENCE, worker.task.done)
    assert judged(scene) == {}


def test_a_blocked_loop_is_not_given_look_after_look(scene, monkeypatch):
    monkeypatch.setattr("chaos.loop.GLANCE", 0.01)
    looks = []
    scene.loop.call_soon_threadsafe(time.sleep, 0.3)
    for _ in range(5):
        scene.look(lambda: looks.append(1))
    scene.call_in_loop(int)
    assert looks == [1]
