"""Rows 43 to 45: signals strike anywhere, also in who waits, and handlers use the pool in whose midst they run."""

from __future__ import annotations

import gc
import logging
import random
import signal
import sys
import time
import weakref
from contextlib import contextmanager

import pytest
from fakes import FakeConnection, FakeConnector
from unit.checks import lease_all
from unit.threads import Caller, eventually

from dbpool import PoolError, PoolExhausted, SimpleConnectionPool, ThreadedConnectionPool

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no setitimer()"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # what an interrupted caller had is dropped
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # a callback was interrupted
]
safe = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="Python 3.9 can lose a lock at the end of each with block: see DESIGN.md"
)
KINDS = [SimpleConnectionPool, ThreadedConnectionPool]


@pytest.fixture
def quick(monkeypatch):
    """Nothing is logged, for logging's own locks are Python code; who is not woken looks soon."""
    monkeypatch.setattr("dbpool.logs._write", lambda *args, **more: None)
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.05)


def pool_of(kind=ThreadedConnectionPool, maxconn=2, **options):
    """Return a pool over fakes; no FakeDriver, whose locks are Python code."""
    config = {"timeout": 5, "detect_deadlock": False, "background": False, **options}
    return kind(0, maxconn, connect=FakeConnector(lambda: FakeConnection(1)), config=config)


@contextmanager
def on_alarm(handler):
    """Have SIGALRM call *handler*."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- 43: interrupt at any point of get, put, close -------------------------------------------------------------------


def interrupt(*_):
    raise KeyboardInterrupt


def alarm_storm(work, seconds, longest=1e-3):
    """Run *work* again and again, and interrupt it at random moments; return how often that struck it."""
    chance, landed, end = random.Random(43), 0, time.monotonic() + seconds
    with on_alarm(interrupt):
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, longest))
                work()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                landed += 1
    return landed


@safe
@pytest.mark.fault(43)
@pytest.mark.interrupts
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("close", [False, True])
def test_a_storm_of_alarms_in_get_and_put_costs_no_slot(quick, kind, close):
    pool = pool_of(kind)

    def use():
        for _ in range(2 if close else 30):
            pool.putconn(pool.getconn(), close=close)

    landed = alarm_storm(use, 0.6)
    print(f"\n{landed} landed, {pool!r}")
    assert landed > 50
    lease_all(pool)
    assert (pool.stats().waiting, pool.stats().used, pool.stats().size) == (0, 0, 2)
    pool.close()


@safe
@pytest.mark.fault(43)
@pytest.mark.interrupts
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("close", ["close", "closeall"])
def test_a_storm_of_alarms_in_close_leaves_a_pool_that_can_be_closed(quick, kind, close):
    pools = []

    def open_and_close():
        pool = pool_of(kind)
        pools.append(pool)
        held, idle = pool.getconn(), pool.getconn()
        pool.putconn(idle)
        idle = None
        pool.close(0) if close == "close" else pool.closeall()
        del held

    landed = alarm_storm(open_and_close, 0.4, longest=3e-4)
    print(f"\n{landed} landed, {len(pools)} pools")
    assert landed > 50
    for pool in pools:
        pool.close(timeout=5)
        assert pool.stats().size == 0
    assert len(pools) > landed / 5  # most got as far as closing it


# ---- 44: interrupt while waiting -------------------------------------------------------------------------------------


@safe
@pytest.mark.fault(44)
@pytest.mark.interrupts
def test_an_alarm_at_the_moment_of_the_hand_over_loses_nothing(quick):
    """The holder puts at about the moment at which the waiter is interrupted: who got it has it, or nobody has."""
    pool, chance, outcomes = pool_of(maxconn=1), random.Random(44), {"served": 0, "interrupted": 0}
    latest = 1e-3  # seconds until the alarm; it is moved to where either outcome is as likely, however busy the machine
    with on_alarm(interrupt):
        for _ in range(300):
            conn = pool.getconn()
            putter = Caller(put_when_waited_for, pool, [conn], chance.uniform(0, 5e-4))
            conn = None
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, latest))
                conn = pool.getconn()
                signal.setitimer(signal.ITIMER_REAL, 0)
                outcomes["served"] += 1
                latest = max(latest / 1.1, 1e-4)
                pool.putconn(conn)
            except KeyboardInterrupt:
                outcomes["interrupted"] += 1
                latest = min(latest * 1.1, 0.1)
            conn = None
            pool.no_one_waits = True
            putter.result()
            pool.no_one_waits = False
            assert pool.stats().waiting == 0
            lease_all(pool)
    print(f"\n{outcomes}")
    assert min(outcomes.values()) > 10
    pool.close()


def put_when_waited_for(pool, held, pause):
    """Put a connection a little after somebody has begun to wait for it, or when nobody does any more."""
    eventually(lambda: pool._state.waiters or getattr(pool, "no_one_waits", False))
    end = time.monotonic() + pause
    while time.monotonic() < end:
        pass
    pool.putconn(held.pop())


# ---- 45: re-entry ----------------------------------------------------------------------------------------------------


@contextmanager
def collecting_soon(allocations):
    """Have the garbage collector run after so many allocations more, wherever that is."""
    before = gc.get_threshold()
    gc.set_threshold(gc.get_count()[0] + allocations, 1000, 1000)
    gc.enable()
    try:
        yield
    finally:
        gc.disable()
        gc.set_threshold(*before)


def use_together(pool, work, turns=150):
    """Do *work* in this thread while another one uses the pool, if it is for threads."""

    def use():
        for _ in range(turns):
            pool.putconn(pool.getconn())

    other = None if isinstance(pool, SimpleConnectionPool) else Caller(use)
    for _ in range(turns):
        work()
        pool.putconn(pool.getconn())
    if other is not None:
        other.result(30)


@pytest.mark.fault(45)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["__del__", "weakref"])
def test_finalizers_that_put_wherever_garbage_is_collected_neither_hang_nor_lose(kind, way):
    pool, refs, owned = pool_of(kind, maxconn=4), [], []

    def put(conn):
        owned.append(pool._lock._is_owned())
        pool.putconn(conn)

    class Session:
        def __init__(self):
            self.conn = pool.getconn()
            self.me = self  # so that only the collector finds it

    if way == "__del__":
        Session.__del__ = lambda self: put(self.conn)

    def leave_garbage():
        session = Session()
        if way == "weakref":
            refs[:] = [weakref.ref(session, lambda _, conn=session.conn: put(conn))]

    def work():
        leave_garbage()
        with collecting_soon(allocations=1 + len(owned) % 60):
            pool.putconn(pool.getconn("a"), "a", close=len(owned) % 2 == 0)
        gc.collect(0)

    gc.collect()
    gc.disable()
    try:
        use_together(pool, work, turns=300)
    finally:
        gc.enable()
    gc.collect()
    print(f"\n{sum(owned)} of {len(owned)} under the lock")
    assert len(owned) == 300
    assert any(owned)
    assert pool.stats().used == 0
    lease_all(pool)
    pool.close()


@pytest.mark.fault(45)
@pytest.mark.parametrize("kind", KINDS)
def test_a_log_handler_that_uses_the_pool_neither_hangs_nor_loses(kind):
    """As one does that writes what is logged to the database."""
    pool, written = pool_of(kind, maxconn=2), []

    class ToDatabase(logging.Handler):
        inside = False

        def emit(self, record):
            if not self.inside:  # what the pool logs meanwhile
                self.inside = True
                try:
                    pool.putconn(pool.getconn(timeout=0))
                    written.append(record.getMessage())
                except PoolExhausted:
                    pass
                finally:
                    self.inside = False

    logger, handler = logging.getLogger("dbpool"), ToDatabase()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        use_together(pool, lambda: pool.putconn(pool.getconn(), close=True))  # each close is logged
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert len(written) > 50
    lease_all(pool)
    pool.close()


@pytest.mark.fault(45)
@pytest.mark.parametrize("kind", KINDS)
def test_a_timer_that_uses_the_pool_every_millisecond_neither_hangs_nor_loses(kind):
    pool, done = pool_of(kind, maxconn=3), {"used": 0, "refused": 0}

    def use(*_):
        try:
            pool.putconn(pool.getconn(timeout=0))
            done["used"] += 1
        except PoolError:  # all are taken, or it came in the midst of a step that it must not see
            done["refused"] += 1
        if time.monotonic() < end:  # on a busy machine such a call takes longer: so the next counts from now
            signal.setitimer(signal.ITIMER_REAL, 0.001)

    end = time.monotonic() + 0.6
    with on_alarm(use):
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while time.monotonic() < end:
            use_together(pool, lambda: pool.putconn(pool.getconn("a"), "a", close=True), turns=20)
    print(f"\n{done}")
    assert done["used"] > 50
    lease_all(pool)
    assert pool.stats().waiting == 0
    pool.close()
