"""Rows 64 and 66: the wall clock jumps, and connections of the same age reach their lifetime together."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from fakes import FakeConnector, FakeDriver
from pains.sessions import MARGIN, Log, Stopwatch, lease, pid_of, put_all, warm
from unit.threads import Caller, eventually

import dbpool
from dbpool import PoolTimeout, SimpleConnectionPool, ThreadedConnectionPool

DAY = 86_400.0

# ---- 64: wall clock jumps --------------------------------------------------------------------------------------------

WALL = ("time", "localtime", "gmtime", "ctime", "strftime", "time_ns", "CLOCK_REALTIME", "datetime", "utime")


@pytest.fixture
def wall(monkeypatch):
    """Set the wall clock: `wall(seconds)` ahead of what it was."""
    real, real_ns, real_get, ahead = time.time, time.time_ns, time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(ahead[0] * 1e9))
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: real_get(clock) + ahead[0] * (clock == time.CLOCK_REALTIME)
    )
    return lambda seconds: ahead.__setitem__(0, seconds)


@pytest.mark.fault(64)
@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_of_the_wall_clock_costs_no_connection_no_question_and_no_time(town, make, driver, wall, caplog, jump):
    pool = make(town.dsn, 1, 2, driver=driver, leak_threshold=60, ping_interval=60, idle_timeout=60, max_lifetime=60)
    pids = warm(pool, 2)
    wall(jump)
    log = Log(town)
    conns = lease(pool, 2)
    assert sorted(map(pid_of, conns)) == sorted(pids)
    waiter = Caller(pool.getconn, timeout=20)
    eventually(lambda: pool.stats().waiting)
    wall(-jump)  # by two days
    with Stopwatch() as watch, pytest.raises(PoolTimeout, match=r"for \d\.\d s"):
        pool.getconn(timeout=0.3)
    assert 0.3 <= watch.seconds < 0.3 + MARGIN
    assert not waiter.ended
    pool._sweep()
    pool.putconn(conns.pop())
    conns.append(waiter.result())
    put_all(pool, conns)
    wall(0)
    assert sorted(warm(pool, 2)) == sorted(pids)
    assert (pool.stats().opened, pool.stats().discards, pool.stats().timeouts) == (2, {}, 1)
    assert log.statements() == []
    assert "leak_threshold" not in caplog.text


PROGRAMS = {"demo", "monitor", "top"}  # over the pools: they tell people what the time is


@pytest.mark.fault(64)
def test_no_module_asks_the_wall_clock():
    home = Path(dbpool.__file__).parent
    for path in home.rglob("*.py"):
        if path.relative_to(home).parts[0] not in PROGRAMS:
            names = {
                node.attr if isinstance(node, ast.Attribute) else node.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, (ast.Attribute, ast.alias))
            } - {"time"}
            assert not names & set(WALL), path
            assert "time.time" not in path.read_text(encoding="utf-8"), path


# ---- 66: same-age connections expire together ------------------------------------------------------------------------

CROWD = 100


class Counted(FakeDriver):
    """Knows how many connections there were whenever one was opened, and when that was."""

    def __init__(self) -> None:
        super().__init__()
        self.then: list[int] = []
        self.times: list[float] = []

    def connect(self, *args, **kwargs):
        self.then.append(len(self.open))
        self.times.append(time.monotonic())
        return super().connect(*args, **kwargs)

    def forget(self) -> None:
        """Only what comes from now on counts."""
        self.then.clear()
        self.times.clear()


@pytest.mark.fault(66)
@pytest.mark.parametrize("kind", [SimpleConnectionPool, ThreadedConnectionPool])
def test_a_crowd_of_one_age_is_replaced_one_by_one_over_a_twentieth_of_its_lifetime(kind, leaping, alone):
    driver, lifetime = Counted(), 1000
    pool = kind(CROWD, CROWD, connect=FakeConnector(driver.connect), config={"max_lifetime": lifetime})
    driver.forget()
    replaced = {}
    for second in range(lifetime + 2):
        leaping.leap(1)
        if second % 5 == 0 or second > lifetime:
            replaced[second] = pool.check().discards.get("lifetime", 0)
    seconds = [second for second, before in zip(list(replaced)[1:], replaced.values()) if replaced[second] > before]
    assert replaced[lifetime + 1] == CROWD
    assert max(seconds) - min(seconds) >= lifetime / 20
    assert min(driver.then) >= CROWD - 1, "more than one was missing"
    assert pool.stats().idle == CROWD
    pool.close()


@pytest.mark.fault(66)
def test_the_housekeeper_does_so_in_time():
    driver, lifetime = Counted(), 1.5
    pool = ThreadedConnectionPool(
        CROWD, CROWD, connect=FakeConnector(driver.connect), config={"max_lifetime": lifetime}
    )
    driver.forget()
    eventually(lambda: len(driver.times) >= CROWD)
    assert driver.times[CROWD - 1] - driver.times[0] >= lifetime / 20
    assert min(driver.then) >= CROWD - 1, "more than one was missing"
    assert set(pool.stats().discards) == {"lifetime"}
    pool.close()
