"""Row 46: hooks that fail, exit, are slow, never come back, use the pool themselves, or leave a transaction open."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, product

import pytest
from asking import ask, tell
from fakes import FakeConnection, FakeConnector, FakeDriver, OperationalError
from pains.sessions import MARGIN, answers, lease, put_all
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolError, PoolListener, PoolTimeout, ThreadedConnectionPool

# ---- each outcome of each hook ---------------------------------------------------------------------------------------

HOOKS = ("dsn", "connect", "on_connect", "ping", "reset", "close")
OUTCOMES = ("ok", "error", "slow", "never", "exit")
TIME = 0.4  # that a getconn has; the limits of each hook are shorter


class Gates(FakeConnector):
    """A driver and its user's hooks, each of which ends as it is told."""

    hangs = True

    def __init__(self, outcomes):
        super().__init__(lambda dsn: self.act("connect") or FakeConnection(1))
        self.outcomes, self.go, self.acted = outcomes, threading.Event(), set()

    def act(self, hook):
        outcome = self.outcomes.get(hook, "ok")
        self.acted.add(hook)
        if outcome == "slow":
            time.sleep(0.01)
        elif outcome == "never":
            self.go.wait(60)
        elif outcome == "error":
            raise OperationalError(hook)
        elif outcome == "exit":
            raise SystemExit(hook)

    def dsn(self):
        self.act("dsn")
        return "dsn"

    def on_connect(self, conn):
        self.act("on_connect")

    def ping(self, conn):
        self.act("ping")

    def clean(self, conn):
        self.act("reset")

    def close(self, conn):
        self.act("close")
        super().close(conn)


def tried(outcomes):
    """Have a pool bear the hooks with these *outcomes*; return what is wrong then, or None."""
    gates = Gates(outcomes)
    config = {
        "timeout": TIME, "connect_timeout": 0.2, "check_timeout": 0.05, "ping_after": 0, "ping_on_connect": True,
        "on_connect": gates.on_connect, "reset": gates.clean, "detect_deadlock": False,
    }  # fmt: skip
    pool = ThreadedConnectionPool(0, 2, gates.dsn, connect=gates, config=config)

    def use():
        for close in (False, True):
            pool.putconn(pool.getconn(), close=close)

    try:
        began = time.monotonic()
        callers = [Caller(use) for _ in range(3)]
        eventually(lambda: all(caller.ended for caller in callers))
        took = time.monotonic() - began
        strange = [caller.error for caller in callers if not _is_expected(caller.error)]
        gates.outcomes = {}  # all is well again, and what hung goes on
        gates.go.set()
        for caller in callers:
            caller.error = None  # an exit's frames keep what they had
        eventually(lambda: pool.stats().connecting == 0)
        lease_all(pool)
        eventually(lambda: adds_up(pool) and pool.stats().used == 0)
        pool.close(timeout=5)
        assert not strange, strange
        assert pool.stats().size == 0
        # Each of two turns: a getconn; then the reset and the close have check_timeout.
        assert took < 2 * (TIME + 0.1) + 4 * MARGIN, f"{took:.2f} s"
    except Exception as error:
        return f"{outcomes}: {type(error).__name__}: {error}, {pool!r}"
    return None


def _is_expected(error):
    return error is None or isinstance(error, (OperationalError, PoolError, SystemExit))


def all_tried(trial, cases):
    """Try many at a time, for most of them only wait; return what is wrong."""
    with ThreadPoolExecutor(16) as threads:
        return [fault for fault in threads.map(trial, cases) if fault is not None]


def pairs():
    """Yield each outcome of each hook alone, and with each outcome of each other."""
    for first, second in combinations(HOOKS, 2):
        for outcomes in product(OUTCOMES, repeat=2):
            yield dict(zip((first, second), outcomes))


@pytest.mark.fault(46)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("hook", HOOKS)
def test_each_outcome_of_each_hook_costs_no_slot_and_no_more_than_its_time(hook):
    """By day with each outcome of each other hook."""
    combos = [combo for combo in pairs() if next(iter(combo)) == hook] or [{hook: outcome} for outcome in OUTCOMES]
    assert all_tried(tried, combos) == []


@pytest.mark.nightly
@pytest.mark.fault(46)
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_whole_product_of_outcomes_costs_no_slot(outcome):
    combos = [dict(zip(HOOKS, (outcome, *others))) for others in product(OUTCOMES, repeat=len(HOOKS) - 1)]
    random.Random(46).shuffle(combos)
    assert all_tried(tried, combos) == []


def test_the_gates_are_all_passed():
    gates = Gates({})
    config = {"ping_on_connect": True, "on_connect": gates.on_connect, "reset": gates.clean}
    with ThreadedConnectionPool(0, 1, gates.dsn, connect=gates, config=config) as pool:
        pool.putconn(pool.getconn())
    assert gates.acted == set(HOOKS)


# ---- a listener ------------------------------------------------------------------------------------------------------

EVENTS = [name for name in vars(PoolListener) if not name.startswith("_")]


class Gated(PoolListener):
    """Does as it is told when one event comes, and nothing at the others."""

    def __init__(self, event, outcome):
        self.event, self.outcome, self.told, self.go = event, outcome, 0, threading.Event()

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "event"):
            return self._act
        return object.__getattribute__(self, name)

    def _act(self, *args):
        self.told += 1
        if self.outcome == "error":
            raise ValueError(self.event)
        if self.outcome == "exit":
            raise SystemExit(self.event)
        if self.outcome == "slow":
            time.sleep(0.01)
        if self.outcome == "never":
            self.go.wait(60)


def have_everything_happen(pool, driver, patience):
    """Cause each event once at least: each in a thread of its own, for whose call may not come back."""

    def exhaust():
        conns = lease(pool, 2)
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.01)
        waiter = Caller(lambda: pool.putconn(pool.getconn()))
        eventually(lambda: pool.stats().waiting)
        time.sleep(0.03)  # these two are held for too long
        pool.check()
        put_all(pool, conns)
        waiter.result()

    def close():
        pool.putconn(pool.getconn(), close=True)

    def fail():
        driver.fail_on = range(10**6)
        pool.drain()
        with pytest.raises((OperationalError, PoolError)):
            pool.getconn(timeout=0.2)
        driver.fail_on = set()

    for work in (close, exhaust, fail):
        caller = Caller(work)
        deadline = time.monotonic() + patience
        while not caller.ended and time.monotonic() < deadline:
            time.sleep(0.001)
        caller.error = None


def listened(case):
    """Have a pool bear a listener; return what is wrong then, or None."""
    (event, outcome), driver = case, FakeDriver()
    listener = Gated(event, outcome)
    driver.keep = False
    config = {"timeout": 0.5, "connect_timeout": 1.0, "leak_threshold": 0.02, "detect_deadlock": False}
    pool = ThreadedConnectionPool(0, 2, connect=FakeConnector(driver.connect), config={**config, "listener": listener})
    try:
        have_everything_happen(pool, driver, patience=1.0 if outcome == "never" else 20.0)
        assert listener.told or event == "closed", "not told"
        listener.outcome = "ok"
        listener.go.set()
        driver.fail_on = set()
        eventually(lambda: pool.stats().connecting == pool.stats().waiting == 0)
        lease_all(pool)
        eventually(lambda: adds_up(pool) and pool.stats().used == 0)
        listener.outcome = outcome if event == "closed" and outcome != "never" else "ok"
        try:
            pool.close(timeout=5)
        except SystemExit:
            assert case == ("closed", "exit")
        assert pool.stats().size == 0
        assert listener.told, "not told"
    except Exception as error:
        return f"{case}: {type(error).__name__}: {error}, {pool!r}"
    return None


@pytest.mark.fault(46)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("outcome", OUTCOMES[1:])
def test_a_listener_cannot_break_the_pool_whatever_it_does(outcome):
    assert all_tried(listened, [(event, outcome) for event in EVENTS]) == []


# ---- on a server -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(46)
def test_an_exit_in_on_connect_costs_neither_slots_nor_workers(town, make, driver):
    """Three exits in a row: three slots, and three threads of the pool's that opened the connections."""
    exits = [SystemExit] * 3

    def on_connect(conn):
        if exits:
            raise exits.pop()

    pool = make(town.dsn, 0, 3, driver=driver, on_connect=on_connect, timeout=20)
    callers = [Caller(pool.getconn) for _ in range(3)]
    for caller in callers:
        with pytest.raises(SystemExit):
            caller.result()
    assert (pool.stats().size, pool.stats().connect_errors) == (0, 3)
    lease_all(pool)
    assert adds_up(pool)


@pytest.mark.fault(46)
def test_hooks_that_leave_a_transaction_open_do_not_pass_it_on(town, make, driver):
    """What on_connect leaves is committed; a reset that leaves one has its connection closed."""
    leave = []

    def on_connect(conn):
        tell(conn, "SELECT set_config('faults.connected', 'yes', false)")

    def reset(conn):
        if leave:
            tell(conn, "SELECT 1")

    pool = make(town.dsn, 0, 1, driver=driver, on_connect=on_connect, reset=reset)
    conn = pool.getconn()
    assert conn.info.transaction_status == 0
    assert ask(conn, "SELECT current_setting('faults.connected')") == "yes"
    leave.append(True)
    pool.putconn(conn)
    assert conn.closed
    assert pool.stats().discards == {"not clean": 1}
    leave.clear()
    again = pool.getconn()
    assert again.info.transaction_status == 0
    pool.putconn(again)


@pytest.mark.fault(46)
def test_hooks_may_use_the_pool_themselves(town, make, driver):
    """Whichever hook it is: it gets another connection, or is told that there is none, and hangs in no case."""
    used, depth = [], threading.local()

    def use(what):
        if not getattr(depth, "inside", False):
            depth.inside = True
            try:
                pools[0].putconn(pools[0].getconn(timeout=0))
                used.append(what)
            except PoolError:
                used.append(f"{what}, refused")
            finally:
                depth.inside = False

    class Listener(PoolListener):
        def connected(self, pool, conn, seconds):
            use("connected")

        def acquired(self, pool, conn):
            use("acquired")

        def released(self, pool, conn, seconds):
            use("released")

        def discarded(self, pool, reason):
            use("discarded")

    pools = []
    options = {"on_connect": lambda conn: use("on_connect"), "reset": lambda conn: use("reset")}
    pools.append(make(town.dsn, 0, 4, driver=driver, timeout=20, listener=Listener(), **options))
    conn = pools[0].getconn()
    assert answers(conn)
    pools[0].putconn(conn)
    pools[0].putconn(pools[0].getconn(), close=True)
    assert {"on_connect", "connected", "acquired", "released", "reset", "discarded"} <= {
        what.partition(",")[0] for what in used
    }
    lease_all(pools[0])
    assert adds_up(pools[0])
