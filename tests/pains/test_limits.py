"""Pains 12, 15, 16, 28, 33, 35: how many connections there are, and for how long."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from asking import ask
from servers import import_or_skip
from unit.threads import Caller, Peak, eventually

from dbpool import Limiter, PoolConfig, PoolExhausted, ThreadedConnectionPool
from dbpool.opening import Backoff

from .sessions import (
    MARGIN,
    Stopwatch,
    administrator,
    answers,
    backends,
    dsn_of,
    is_gone,
    lease,
    order,
    pid_of,
    put_all,
    warm,
)

psycopg2 = import_or_skip("psycopg2")
DOCS = Path(__file__).resolve().parents[2] / "docs"


class Census(Peak):
    """Counts the connections of a driver from before they are opened until their close has returned."""

    def connect(self, *args, **kwargs):
        self.__enter__()
        try:
            conn = psycopg2.connect(*args, connection_factory=Counted, **kwargs)
        except BaseException:
            self.__exit__()
            raise
        conn.census = self
        return conn


class Counted(psycopg2.extensions.connection):
    """Tells its census when it has been closed."""

    def close(self):
        super().close()
        self.census.__exit__()


@pytest.fixture
def census():
    """Counts the connections of the test's pools."""
    return Census()


# ---- 12: the pool keeps nothing open ---------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 5])
def test_pain_12_a_thousand_checkouts_open_as_many_as_are_used_at_a_time(town, make, driver, concurrency):
    pool = make(town.dsn, 0, concurrency + 3, driver=driver)
    everybody, pids = threading.Barrier(concurrency), set()

    def work():
        conn = pool.getconn()
        everybody.wait(20)  # all of them at a time, once
        pool.putconn(conn)
        for _ in range(1000 // concurrency - 1):
            conn = pool.getconn()
            pids.add(pid_of(conn))
            pool.putconn(conn)

    for caller in [Caller(work) for _ in range(concurrency)]:
        caller.result(30)
    assert pool.stats().leases == 1000
    assert pool.stats().opened == pool.stats().idle == concurrency
    assert pids <= backends(town)


def test_pain_12_what_is_unused_is_closed_in_time(town, make, driver):
    pool = make(town.dsn, 1, 5, driver=driver, idle_timeout=0.2)
    pids = warm(pool, 5)
    eventually(lambda: sum(map(is_gone, pids)) == 4)
    assert pool.stats().idle == 1


def test_pain_12_the_old_rule_can_be_had(town, make, driver):
    pool = make(town.dsn, 0, 5, driver=driver, **PoolConfig.like_psycopg2()._asdict())
    assert len({warm(pool)[0] for _ in range(5)}) == 5
    assert (pool.stats().opened, pool.stats().size) == (5, 0)


# ---- 15: max_lifetime is ignored -------------------------------------------------------------------------------------


def test_pain_15_no_checkout_gives_what_has_reached_its_lifetime(town, make, driver, leaping, alone):
    pool = make(town.dsn, 0, 1, driver=driver, max_lifetime=100, lifetime_jitter=0, check_after=None, ping_after=None)
    [old] = warm(pool)
    leaping.leap(99)
    assert warm(pool) == [old]
    leaping.leap(1.1)
    assert warm(pool) != [old]
    assert pool.stats().size == 1


def test_pain_15_what_has_reached_its_lifetime_in_use_is_not_handed_on(town, make, leaping, alone):
    pool = make(town.dsn, 0, 1, max_lifetime=100, lifetime_jitter=0)
    conn = pool.getconn(timeout=None)
    waiter = Caller(pool.getconn, timeout=None)
    eventually(lambda: pool.stats().waiting)
    leaping.leap(101)
    pool.putconn(conn)
    other = waiter.result()
    assert pid_of(other) != pid_of(conn) if not conn.closed else answers(other)
    assert conn.closed
    pool.putconn(other)


def test_pain_15_the_sweep_closes_what_has_reached_its_lifetime(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver, max_lifetime=0.3)
    pids = warm(pool, 2)
    eventually(lambda: all(map(is_gone, pids)))
    eventually(lambda: pool.stats().discards == {"lifetime": 2})  # counted once the close has returned


def test_pain_15_no_checkout_gives_what_was_idle_for_too_long(town, make, leaping, alone):
    pool = make(town.dsn, 0, 2, idle_timeout=100)
    pids = warm(pool, 2)
    leaping.leap(101)
    assert warm(pool, 2)[0] not in pids
    assert pool.stats().discards["idle"] >= 1


def test_pain_15_idle_for_too_long_is_closed_when_anything_happens(town, make, leaping, alone):
    pool = make(town.dsn, 0, 3, idle_timeout=100)
    conn, *others = lease(pool, 3)
    put_all(pool, others)
    leaping.leap(101)
    pool.check()
    assert pool.stats().idle == 0
    assert all(other.closed for other in others)
    pool.putconn(conn)


# ---- 16: "sorry, too many clients already" ---------------------------------------------------------------------------


def test_pain_16_a_limiter_caps_several_pools_exactly(town, census):
    limiter = Limiter(5)
    config = {"limiter": limiter, "timeout": 20, "detect_deadlock": False}
    pools = [ThreadedConnectionPool(0, 5, town.dsn, connect=census.connect, config=config) for _ in range(3)]

    def work(number):
        for turn in range(30):
            pool = pools[(number + turn) % 3]
            conn = pool.getconn()
            assert ask(conn, "SELECT 1") == 1
            pool.putconn(conn)

    for caller in [Caller(work, number) for number in range(9)]:
        caller.result(40)
    assert census.most == 5
    for pool in pools:
        pool.close(5)


def test_pain_16_a_limiter_takes_from_a_pool_that_has_idle_ones(town, make):
    limiter = Limiter(2)
    busy, idle = (make(town.dsn, 0, 2, limiter=limiter) for _ in range(2))
    pids = warm(idle, 2)
    conns = lease(busy, 2)
    assert limiter.used == 2
    eventually(lambda: all(map(is_gone, pids)))
    with pytest.raises(PoolExhausted, match="2 of 2 under its limiter"):
        idle.getconn(timeout=0)
    put_all(busy, conns)


@pytest.mark.fault(18)
def test_pain_16_too_many_clients_are_served_by_the_connections_there_are(cluster, make, driver):
    server = cluster(max_connections="8", superuser_reserved_connections="0", max_wal_senders="0")
    others = [psycopg2.connect(server.dsn) for _ in range(6)]
    pool = make(server.dsn, 0, 6, driver=driver, timeout=5)
    conns = lease(pool, 2)
    callers = [Caller(pool.getconn) for _ in range(4)]
    eventually(lambda: pool.stats().connect_errors >= 3)  # it was refused, and tries again
    with Stopwatch() as watch:
        errors = pool.stats().connect_errors
        put_all(pool, conns)
        served = [caller for caller in callers if _comes(caller, pool)]
    assert len(served) == 4
    assert pool.stats().connect_errors - errors <= 4 + 20 * watch.seconds
    for conn in others:
        conn.close()
    eventually(lambda: _can_lease(pool, 6))


def _comes(caller, pool):
    conn = caller.result()
    assert answers(conn)
    pool.putconn(conn)
    return True


def _can_lease(pool, count):
    with ExitStack() as blocks:
        try:
            for _ in range(count):
                blocks.enter_context(pool.connection())
        except PoolExhausted:
            return False
        return True


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pain_16_the_docs_give_the_formula(language):
    text = (DOCS / language / "sizing.md").read_text(encoding="utf-8")
    formula = next(line for line in text.splitlines() if "≤ `max_connections`" in line)
    assert "maxconn" in formula
    assert "\N{MULTIPLICATION SIGN}" in formula


# ---- 28: all connections end together --------------------------------------------------------------------------------


@pytest.mark.fault(66)
def test_pain_28_lifetimes_are_spread_by_default(town, make, leaping):
    pool = make(town.dsn, 0, 30, max_lifetime=1000, idle_timeout=None, ping_after=None, background=False)
    warm(pool, 30)
    leaping.leap(895)
    assert pool.check().discards == {}
    leaping.leap(55)
    assert 0 < pool.check().discards["lifetime"] < 30  # at half of the spread
    leaping.leap(55)
    assert pool.check().discards["lifetime"] == 30


def test_pain_28_no_more_are_opened_at_a_time_than_max_connecting(town):
    peak, everybody = Peak(), threading.Barrier(2)

    def connect(*args):
        with peak:
            conn = psycopg2.connect(*args)
            everybody.wait(20)  # there are two at a time, for each of the eight
            return conn

    config = {"max_connecting": 2, "timeout": 20}
    with ThreadedConnectionPool(0, 8, town.dsn, connect=connect, config=config) as pool:
        callers = [Caller(pool.getconn) for _ in range(8)]
        conns = [caller.result() for caller in callers]
        put_all(pool, conns)
    assert peak.most == 2


def test_pain_28_open_opening_and_closing_together_never_exceed_maxconn(town, census):
    with ThreadedConnectionPool(0, 3, town.dsn, connect=census.connect, config={"timeout": 20}) as pool:

        def work():
            for _ in range(20):
                conn = pool.getconn()
                pool.putconn(conn, close=True)

        for caller in [Caller(work) for _ in range(8)]:
            caller.result(40)
        assert census.most == 3


def test_pain_28_a_server_that_refuses_is_left_alone_longer_and_longer(inn, make):
    pool = make(inn.dsn, 0, 5)
    inn.stop("immediate")

    def wait():
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=1.2)

    for caller in [Caller(wait) for _ in range(5)]:
        caller.result()
    assert 2 <= pool.stats().connect_errors <= 10  # for all of them together
    pauses = [[each.next() for _ in range(6)] for each in (Backoff(), Backoff())]
    assert pauses[0] != pauses[1]


# ---- 33: a firewall cuts what is idle --------------------------------------------------------------------------------


def lasts_longer_than_the_limit(server, pid):
    """Tell whether the server has heard of a session for thrice the limit."""
    with administrator(server) as conn:
        ask(conn, "SELECT set_config('idle_session_timeout', '0', false)")
        long = "bool_or(state_change - backend_start > interval '2.1 s')"
        heard = f"SELECT {long} FROM pg_stat_activity WHERE pid = {pid}"
        eventually(lambda: is_gone(pid) or ask(conn, heard))
    return not is_gone(pid)


@pytest.mark.parametrize("interval", [0.15, None])
def test_pain_33_pings_in_the_background_keep_idle_connections_alive(cluster, make, interval):
    server = cluster(idle_session_timeout="700")  # ms
    pool = make(server.dsn, 1, 1, ping_interval=interval)
    [pid] = backends(server)
    assert lasts_longer_than_the_limit(server, pid) == (interval is not None)
    assert pool.stats().leases == 0
    if interval:
        assert warm(pool) == [pid]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pain_33_the_docs_tell_of_the_systems_own_keepalives(language):
    text = "".join(file.read_text(encoding="utf-8") for file in (DOCS / language).glob("*.md"))
    assert "keepalives_idle" in text
    assert "ping_interval" in text


# ---- 35: the pool never shrinks --------------------------------------------------------------------------------------


def test_pain_35_after_a_burst_the_pool_is_back_to_minconn_within_idle_timeout(town, make):
    pool = make(town.dsn, 2, 8, idle_timeout=1.0)
    with Stopwatch() as watch:
        put_all(pool, lease(pool, 8))
        eventually(lambda: pool.stats().size == 2)
    assert 0.9 <= watch.seconds < 1.1 + MARGIN


@pytest.mark.parametrize(("order_of_use", "used"), [("lifo", 1), ("fifo", 3)])
def test_pain_35_load_stays_on_few_connections_or_goes_round(town, make, order_of_use, used):
    options = {} if order_of_use == "lifo" else {"idle_order": "fifo"}
    pool = make(town.dsn, 0, 3, **options)
    warm(pool, 3)
    assert len({warm(pool)[0] for _ in range(9)}) == used


def test_pain_35_under_a_load_that_goes_on_what_is_not_needed_is_closed(town, make):
    pool = make(town.dsn, 0, 4, idle_timeout=0.3)
    pids = warm(pool, 4)
    eventually(lambda: warm(pool) and sum(map(is_gone, pids)) == 3)
    eventually(lambda: pool.stats().size == 1)  # once the close has returned


def test_pain_16_the_server_really_refuses(town, make):
    """What the tests of pain 16 stand on: a role's limit is the server's own count."""
    order(town, "DROP ROLE IF EXISTS few", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    pool = make(dsn_of(town, user="few", password="few"), 0, 5)
    conns = lease(pool, 2)
    with pytest.raises(psycopg2.OperationalError, match="too many connections for role"):
        pool.getconn(timeout=0)
    waiter = Caller(pool.getconn, timeout=20)
    eventually(lambda: pool.stats().connect_errors >= 2)
    pool.putconn(conns.pop())
    conns.append(waiter.result())
    put_all(pool, conns)
