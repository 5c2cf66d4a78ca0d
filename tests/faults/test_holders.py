"""Rows 38 to 42: what is put twice, put wrongly, used too late, held by all who wait, and never put."""

from __future__ import annotations

import gc
import re
import threading
import warnings

import pytest
from asking import ask, tell
from fakes import FakeConnector, FakeDriver
from pains.sessions import MARGIN, Stopwatch, backends, lease, pid_of, put_all
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolError, PoolTimeout, SimpleConnectionPool, ThreadedConnectionPool

KINDS = [SimpleConnectionPool, ThreadedConnectionPool]


# ---- 38: returned twice ----------------------------------------------------------------------------------------------


@pytest.mark.fault(38)
@pytest.mark.parametrize("way", ["a block", "a proxy"])
def test_a_second_return_leaves_alone_who_has_it_by_then(town, make, driver, way):
    """A raw connection cannot tell its two leases apart; a block and a proxy know theirs."""
    pool = make(town.dsn, 0, 1, driver=driver)
    lent = pool.connection() if way == "a block" else pool.connect()
    conn = lent.__enter__() if way == "a block" else lent.raw
    pool.putconn(conn)
    again = pool.getconn()
    assert again is conn
    tell(again, "SELECT set_config('faults.mine', 'here', true)")
    if way == "a block":
        with pytest.raises(PoolError, match="put back or closed inside its with block"):
            lent.__exit__(None, None, None)
    else:
        lent.close()
    assert pool.stats().used == 1
    assert ask(again, "SELECT current_setting('faults.mine')") == "here"  # its transaction goes on
    pool.putconn(again)
    lease_all(pool)


# ---- 39: foreign, None, closed, another pool's returned --------------------------------------------------------------


@pytest.mark.fault(39)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("close", [False, True])
def test_five_wrong_returns_are_refused_and_change_nothing(town, make, driver, kind, close):
    pool, other = (make(town.dsn, 0, 2, driver=driver, kind=kind) for _ in range(2))
    leased, anothers = pool.getconn(), other.getconn()
    foreign, closed = driver.connect(town.dsn), driver.connect(town.dsn)
    closed.close()
    wrong = {"foreign": foreign, "none": None, "closed": closed, "another pool's": anothers, "no connection": 5}
    before = pool.stats(), other.stats(), pool.holders()[0].thread_id
    for case, conn in wrong.items():
        with pytest.raises(PoolError, match="trying to put") as caught:
            pool.putconn(conn, close=close)
        assert isinstance(caught.value, driver.Error)
        assert (pool.stats(), other.stats(), pool.holders()[0].thread_id) == before, case
    for conn in (foreign, anothers, leased):
        assert ask(conn, "SELECT 1") == 1  # nobody has closed them
    foreign.close()
    pool.putconn(leased)
    other.putconn(anothers)
    lease_all(pool)
    lease_all(other)


# ---- 40: used after its return; used by two threads ------------------------------------------------------------------

USES = {
    "a cursor": lambda proxy: proxy.cursor(),
    "commit": lambda proxy: proxy.commit(),
    "rollback": lambda proxy: proxy.rollback(),
    "raw": lambda proxy: proxy.raw,
    "an attribute": lambda proxy: proxy.info,
    "setting one": lambda proxy: setattr(proxy, "autocommit", True),
    "with": lambda proxy: proxy.__enter__(),
}


@pytest.mark.fault(40)
@pytest.mark.parametrize("use", USES)
def test_a_proxy_refuses_to_be_used_after_its_return(town, make, driver, use):
    pool = make(town.dsn, 0, 1, driver=driver)
    proxy = pool.connect()
    tell(proxy, "SELECT 1")
    proxy.close()
    with pool.connection() as conn:
        tell(conn, "SELECT set_config('faults.mine', 'here', true)")
        with pytest.raises(PoolError, match="given back to the pool") as caught:
            USES[use](proxy)
        assert isinstance(caught.value, driver.Error)
        proxy.close()  # harms nobody
        assert ask(conn, "SELECT current_setting('faults.mine')") == "here"
        assert not conn.autocommit


@pytest.mark.fault(40)
def test_of_two_threads_that_close_one_proxy_one_gives_it_back(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver)
    for _ in range(30):
        proxy, both = pool.connect(), threading.Barrier(2)

        def close(proxy=proxy, both=both):
            both.wait(20)
            proxy.close()

        for caller in [Caller(close), Caller(close)]:
            caller.result()
        assert (pool.stats().used, pool.stats().idle) == (0, 1)
    assert len({id(conn) for conn in lease_all(pool)}) == 2


@pytest.mark.fault(40)
def test_strict_and_trace_name_both_who_put_and_who_holds(town, make, driver, monkeypatch):
    """A raw connection that two threads use is found out when the wrong one puts it: the error names the other."""
    monkeypatch.setattr("dbpool.standing._last", (float("-inf"), {}))  # what was seen before
    pool, go, held = make(town.dsn, 0, 2, driver=driver, strict=True, trace=True), threading.Event(), []

    def hold():
        held.append(pool.getconn())
        go.wait(20)
        pool.putconn(held[0])

    holder = threading.Thread(target=hold, name="baker")
    holder.start()
    eventually(lambda: held)
    place = rf"{re.escape(__file__)}:\d+ in hold"
    assert ask(held[0], "SELECT 1") == 1  # which nobody can notice
    held[0].rollback()
    with pytest.raises(PoolError, match=rf"thread 'baker' for \S+ s \(got it at {place}\), now at {place}"):
        pool.putconn(held[0])
    go.set()
    holder.join()
    lease_all(pool)


# ---- 41: nested checkouts deadlock -----------------------------------------------------------------------------------


@pytest.mark.fault(41)
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_each_take_two_of_as_many_are_told_on_time_who_holds_them(threads, monkeypatch):
    monkeypatch.setattr("dbpool.standing._last", (float("-inf"), {}))  # what was seen before
    pool = ThreadedConnectionPool(0, threads, connect=FakeConnector(FakeDriver().connect))
    all_hold, all_told = threading.Barrier(threads), threading.Barrier(threads + 1)
    told: list[tuple[float, str]] = []

    def take_two():
        with pool.connection():
            all_hold.wait(20)
            with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
                pool.getconn(timeout=0.4)
            told.append((watch.seconds, str(caught.value)))
            all_told.wait(20)

    workers = [threading.Thread(target=take_two, name=f"worker {number}") for number in range(threads)]
    for worker in workers:
        worker.start()
    all_told.wait(20)
    for worker in workers:
        worker.join()
    assert len(told) == threads
    for seconds, text in told:
        assert 0.4 <= seconds < 0.4 + MARGIN
        for number in range(threads):
            assert re.search(rf"thread 'worker {number}' for 0\.[3-9] s, now at {re.escape(__file__)}", text), text
    lease_all(pool)
    pool.close()


# ---- 42: leak: thread dies or forgets --------------------------------------------------------------------------------


@pytest.mark.fault(42)
@pytest.mark.filterwarnings("ignore:.*was deleted while still open")  # psycopg 3 says so, too
def test_a_thread_that_dies_with_its_connection_gives_its_slot_back_and_is_told_of_once(town, make, driver, caplog):
    pool = make(town.dsn, 0, 1, driver=driver, trace=True, timeout=20)

    def forget():
        tell(pool.getconn(), "SELECT 1")

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        thread = threading.Thread(target=forget, name="forgetful")
        thread.start()
        thread.join()
        gc.collect()
        conn = pool.getconn()  # and does not wait for a time-out
    told = [str(each.message) for each in warned if "without putconn" in str(each.message)]
    assert len(told) == 1
    assert re.search(rf"got it at {re.escape(__file__)}:\d+ in forget", told[0])
    assert caplog.text.count("without putconn") == 1
    eventually(lambda: len(backends(town)) == 1)
    assert pid_of(conn) in backends(town)
    assert pool.stats().discards == {"dropped": 1}
    pool.putconn(conn)
    assert adds_up(pool)


@pytest.mark.fault(42)
def test_only_what_is_held_beyond_the_threshold_is_told_of_and_each_lease_once(town, make, caplog):
    import_or_skip("psycopg2")
    pool = make(town.dsn, 0, 3, leak_threshold=0.2, trace=True)
    long = lease(pool, 2)
    over = threading.Event()

    def work():
        while not over.is_set():
            pool.putconn(pool.getconn())  # a connection that is out all the time, but never for long

    worker = Caller(work)
    eventually(lambda: caplog.text.count("leak_threshold") == 2)
    for _ in range(5):
        pool.check()
    over.set()
    worker.result()
    assert caplog.text.count("leak_threshold") == 2
    put_all(pool, long)
