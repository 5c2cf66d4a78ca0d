"""Pains 1, 5, 9, 10, 25: backends that are killed, servers that restart, and outages."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from asking import ask, tell
from fakes import FakeConnector, FakeDriver, no_housekeeper
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import SimpleConnectionPool, ThreadedConnectionPool

from .sessions import MARGIN, Stopwatch, kill, lease, order, pid_of, put_all, warm

psycopg2 = import_or_skip("psycopg2")


# ---- 1: after a restart every request fails --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 50])
def test_pain_01_every_checkout_after_a_restart_succeeds(inn, make, size):
    pool = make(inn.dsn, 0, size, check_after=0)
    before = warm(pool, size)
    inn.stop("immediate")
    inn.start()
    with Stopwatch() as watch:
        conns = lease(pool, size)
    assert [ask(conn, "SELECT 1") for conn in conns] == [1] * size
    assert not {pid_of(conn) for conn in conns} & set(before)
    assert watch.seconds < 1 + MARGIN
    put_all(pool, conns)


@pytest.mark.parametrize("size", [1, 5, 50])
def test_pain_01_every_checkout_after_all_backends_were_killed_succeeds(town, make, driver, size):
    pool = make(town.dsn, 0, size, driver=driver, check_after=0)
    kill(town, warm(pool, size))
    conns = lease(pool, size)
    assert [ask(conn, "SELECT 1") for conn in conns] == [1] * size
    put_all(pool, conns)
    assert pool.stats().discards["lost"] == size


def test_pain_01_no_helper_is_needed_to_notice_that_all_backends_were_killed(town, make, driver):
    pool = make(town.dsn, 0, 5, driver=driver, check_after=0, background=False)
    kill(town, warm(pool, 5))
    conns = lease(pool, 5)
    assert [ask(conn, "SELECT 1") for conn in conns] == [1] * 5
    put_all(pool, conns)


# ---- 5: "exhausted" for ever -----------------------------------------------------------------------------------------


def test_pain_05_ten_thousand_transactions_that_are_lost_cost_no_slot():
    driver = FakeDriver()
    driver.keep = False
    with ThreadedConnectionPool(0, 2, connect=FakeConnector(driver.connect)) as pool:
        for _ in range(5_000):
            conns = lease(pool, 2)
            for conn in conns:
                conn.execute()
                conn.fail_rollback = True
            put_all(pool, conns)
        assert driver.calls == sum(pool.stats().discards.values()) == 10_000
        conns.clear()
        conn = None
        assert pool.stats().size == 0
        lease_all(pool)


@pytest.mark.parametrize("kind", [SimpleConnectionPool, ThreadedConnectionPool])
def test_pain_05_backends_killed_in_a_transaction_cost_no_slot(town, make, driver, kind):
    pool = make(town.dsn, 0, 4, driver=driver, kind=kind)
    for _ in range(5):
        conns = lease(pool, 4)
        for conn in conns:
            tell(conn, "SELECT 1")
        kill(town, map(pid_of, conns))
        put_all(pool, conns)  # and raises nothing
        assert pool.stats().size == 0
    lease_all(pool)
    assert adds_up(pool)


# ---- 9: the database is back, and the pool is not --------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 12, 50])
def test_pain_09_a_pool_that_keeps_minconn_recovers_within_a_second(inn, make, size):
    pool = make(inn.dsn, size, size)
    inn.stop("immediate")
    eventually(lambda: pool.stats().connect_errors >= 1)  # it tries, and is refused
    inn.start()
    with Stopwatch() as watch:
        conns = lease(pool, size)
    assert [ask(conn, "SELECT 1") for conn in conns] == [1] * size
    assert watch.seconds < 1 + MARGIN
    put_all(pool, conns)


def test_pain_09_the_first_stale_one_casts_doubt_on_all_that_are_older(town, make, driver, alone):
    pool = make(town.dsn, 0, 5, driver=driver, check_after=None, ping_after=None)  # no look without a reason
    kill(town, warm(pool, 5))
    failures = []
    for _ in range(5):
        try:
            with pool.connection() as conn:
                ask(conn, "SELECT 1")
        except driver.OperationalError as error:
            failures.append(error)
    assert len(failures) == 1
    put_all(pool, lease(pool, 5))
    assert pool.stats().discards["lost"] == 5


# ---- 10: stuck after a long outage -----------------------------------------------------------------------------------


def refuse_threads(*args, **kwargs):
    raise RuntimeError("can't start new thread")


@pytest.fixture(params=["no housekeeper", "no threads", "background=False"])
def helpless(request, monkeypatch):
    """A host that runs no helpers: the options of its pools."""
    with ExitStack() as stack:
        if request.param != "background=False":
            stack.enter_context(no_housekeeper())
        if request.param == "no threads":
            for module in ("pool", "bounded"):
                monkeypatch.setattr(f"dbpool.{module}.start_new_thread", refuse_threads)
        yield {"background": False} if request.param == "background=False" else {}


def test_pain_10_an_outage_of_a_day_ends_at_the_first_checkout_without_any_helper(inn, make, helpless, leaping):
    pool = make(inn.dsn, 2, 4, **helpless)
    inn.stop("immediate")
    for _ in range(4):
        leaping.leap(6 * 3600)
        with pytest.raises(psycopg2.OperationalError):
            pool.getconn(timeout=0)
    inn.start()
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1
    lease_all(pool)


def test_pain_10_an_outage_ends_for_those_who_wait(inn, make, helpless):
    pool = make(inn.dsn, 1, 2, check_after=0, timeout=20, **helpless)
    inn.stop("immediate")

    def work():
        with pool.connection() as conn:
            return ask(conn, "SELECT 1")

    callers = [Caller(work) for _ in range(2)]
    eventually(lambda: pool.stats().connect_errors >= 2)
    inn.start()
    assert [caller.result(20) for caller in callers] == [1, 1]


# ---- 25: silent loss -------------------------------------------------------------------------------------------------


def in_a_block(pool, use):
    with pool.connection() as conn:
        use(conn, pid_of(conn))


def by_hand(pool, use):
    conn = pool.getconn()
    try:
        use(conn, pid_of(conn))
        conn.commit()
    finally:
        pool.putconn(conn)


def through_connect(pool, use):
    conn = pool.connect()
    try:
        use(conn, ask(conn, "SELECT pg_backend_pid()"))
        conn.commit()
    finally:
        conn.close()


@pytest.mark.parametrize("way", [in_a_block, by_hand, through_connect])
@pytest.mark.parametrize("moment", ["between statements", "before the commit"])
def test_pain_25_a_loss_in_a_transaction_is_the_drivers_error_and_nothing_is_repeated(
    town, make, driver, way, moment
):  # fmt: skip
    order(town, "DROP TABLE IF EXISTS payment", "CREATE TABLE payment (number integer)")
    pool = make(town.dsn, 0, 1, driver=driver)

    def pay(conn, pid):
        tell(conn, "INSERT INTO payment VALUES (1)")
        if moment == "between statements":
            kill(town, [pid])
        tell(conn, "INSERT INTO payment VALUES (2)")
        kill(town, [pid])

    with pytest.raises(driver.Error) as caught:
        way(pool, pay)
    assert isinstance(caught.value, (driver.OperationalError, driver.InterfaceError))
    with pool.connection() as conn:
        assert ask(conn, "SELECT count(*) FROM payment") == 0
        conn.rollback()
