"""Pains 2, 3, 19, 20, 21: waiting for a connection, in turn and not for ever, and being told why there is none."""

from __future__ import annotations

import gc
import logging
import re
import sys
import threading

import pytest
from asking import ask, tell
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool import PersistentConnectionPool, PoolError, PoolExhausted, PoolTimeout

from .processes import run, script_of
from .sessions import MARGIN, Stopwatch, dsn_of, lease, pid_of, put_all

psycopg2 = import_or_skip("psycopg2")


# ---- 2: "exhausted" at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.05, 0.4])
def test_pain_02_getconn_waits_for_its_timeout_and_no_longer(town, make, driver, timeout):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=timeout)
    assert isinstance(caught.value, (PoolError, driver.Error))
    assert isinstance(caught.value, driver.Error)
    assert timeout <= watch.seconds < timeout + MARGIN
    pool.putconn(conn)


def test_pain_02_who_waits_is_given_what_comes_back_in_time(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    waiter = Caller(pool.getconn, timeout=20)
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    assert waiter.result() is conn
    pool.putconn(conn)


def test_pain_02_timeout_0_never_waits(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    with Stopwatch() as watch, pytest.raises(PoolExhausted, match=r"^connection pool exhausted") as caught:
        pool.getconn(timeout=0)
    assert not isinstance(caught.value, PoolTimeout)
    assert watch.seconds < MARGIN
    pool.putconn(conn)


def test_pain_02_the_twins_error_is_psycopg2s_own(town):
    import psycopg2.pool as original

    from dbpool import psycopg2 as twin

    with twin.ThreadedConnectionPool(0, 1, town.dsn, config={"detect_deadlock": False}) as pool:
        conn = pool.getconn()
        with pytest.raises(original.PoolError, match="connection pool exhausted"):
            pool.getconn(timeout=0.05)
        pool.putconn(conn)


# ---- 3: who holds the connections? -----------------------------------------------------------------------------------


@pytest.mark.fault(42)
@pytest.mark.filterwarnings("ignore:.*was deleted while still open")  # psycopg 3 says so, too
@pytest.mark.parametrize("in_cycle", [False, True])
def test_pain_03_a_dropped_connection_frees_its_slot_and_names_the_line_that_got_it(town, make, driver, in_cycle):
    pool = make(town.dsn, 0, 1, driver=driver, trace=True)

    def forget():
        held = [pool.getconn()]
        held.append(held if in_cycle else None)
        return f"{__file__}:{sys._getframe().f_lineno - 2} in forget"

    line = forget()
    gc.collect()
    with pytest.warns(ResourceWarning, match=re.escape(line)):
        conn = pool.getconn(timeout=5)
    pool.putconn(conn)


def test_pain_03_a_timeout_names_each_holder_for_how_long_and_where(town, make):
    pool = make(town.dsn, 0, 2, trace=True)
    go, lines = threading.Event(), {}

    def hold():
        lines[threading.current_thread().name] = sys._getframe().f_lineno + 1
        conn = pool.getconn()
        go.wait(20)
        pool.putconn(conn)

    holders = [threading.Thread(target=hold, name=name) for name in ("baker", "miller")]
    for holder in holders:
        holder.start()
    eventually(lambda: pool.stats().used == 2)
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0.1)
    text = str(caught.value)
    for name in ("baker", "miller"):
        assert re.search(
            rf"thread '{name}' for 0\.\d s \(got it at {re.escape(__file__)}:{lines[name]} in hold\)", text
        )
    assert f"now at {__file__}:{lines['baker'] + 1} in hold" in text
    assert [user.thread for user in pool.holders()] == ["baker", "miller"]
    go.set()
    for holder in holders:
        holder.join()


@pytest.mark.fault(42)
def test_pain_03_a_long_lease_is_logged_once(town, make, caplog):
    caplog.set_level(logging.WARNING, "dbpool")
    pool = make(town.dsn, 0, 2, leak_threshold=0.1, trace=True)
    conn = pool.getconn()
    line = f"{__file__}:{sys._getframe().f_lineno - 1}"
    eventually(lambda: "leak_threshold" in caplog.text)
    for _ in range(3):
        pool.check()
    [record] = [record for record in caplog.records if "leak_threshold" in record.getMessage()]
    assert line in record.getMessage()
    pool.putconn(conn)


# ---- 19: but why? ----------------------------------------------------------------------------------------------------


def test_pain_19_a_timeout_says_what_the_pool_is_doing(town, make):
    pool = make(town.dsn, 0, 2)
    conns = lease(pool, 2)
    waiter = Caller(pool.getconn, timeout=20)
    eventually(lambda: pool.stats().waiting == 1)
    with pytest.raises(PoolTimeout, match=r"2 used, 0 idle, 0 connecting, \d waiting, max 2"):
        pool.getconn(timeout=0.05)
    put_all(pool, conns)
    pool.putconn(waiter.result())


def test_pain_19_a_timeout_has_the_last_connect_error_as_its_cause(town, address, make, driver):
    address.point(town)
    pool = make(address.dsn, 0, 2, driver=driver)
    conn = pool.getconn()
    address.point(None)
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0.3)
    assert isinstance(caught.value.__cause__, driver.OperationalError)
    assert re.search("connect|refused|No such file", str(caught.value.__cause__))
    pool.putconn(conn)


REFUSED = {
    "wrong password": ({"password": "hunter2"}, "password authentication failed"),
    "unknown database": ({"dbname": "nowhere"}, "does not exist"),
    "unknown host": ({"host": "no-such-host.invalid"}, "could not translate|resolve|not known"),
}


@pytest.mark.fault(15, 20)  # an unknown host; an unknown database
@pytest.mark.parametrize("case", REFUSED)
def test_pain_19_what_waiting_cannot_mend_fails_all_who_wait_at_once(town, make, driver, case):
    changed, text = REFUSED[case]
    pool = make(dsn_of(town, **changed), 0, 1, driver=driver, timeout=60)
    callers = [Caller(pool.getconn) for _ in range(3)]
    for caller in callers:
        with pytest.raises(driver.Error, match=text):
            caller.result()  # whose patience is much less than 60 s
    assert pool.stats().size == 0


# ---- 20: some threads never get a connection -------------------------------------------------------------------------


def most_to_least(turns):
    """Return how many more turns one has had than another, by the time that it has had sixty."""
    before = list(turns)  # not all of them began at the same moment
    eventually(lambda: max(turns) >= max(before) + 60)
    had = [now - then for now, then in zip(list(turns), before)]
    return max(had) / max(min(had), 0.1)


def test_pain_20_twenty_threads_on_two_connections_have_as_many_turns_each(town, make, driver):
    pool = make(town.dsn, 2, 2, driver=driver)
    turns, everybody, over = [0] * 20, threading.Barrier(21), []

    def work(number):
        everybody.wait(20)
        while not over:
            with pool.connection() as conn:
                ask(conn, "SELECT 1")
                turns[number] += 1

    callers = [Caller(work, number) for number in range(20)]
    everybody.wait(20)
    eventually(lambda: min(turns) >= 1)
    ratios = []
    while len(ratios) < 4 and min(ratios, default=9) >= 1.5:  # on a busy machine a thread may be kept from asking
        ratios.append(most_to_least(turns))
    over.append(True)
    for caller in callers:
        caller.result()
    assert min(ratios) < 1.5, ratios
    assert pool.stats().timeouts == 0


# ---- 21: one task takes two connections ------------------------------------------------------------------------------

NESTED = """
import threading
from dbpool import PoolDeadlock, ThreadedConnectionPool

pool = ThreadedConnectionPool(0, 2, {dsn!r}, config={{"timeout": 60, "trace": True}})
both = threading.Barrier(2)
told = []

def outer():
    conn = pool.getconn()
    both.wait(20)
    inner()
    pool.putconn(conn)

def inner():
    try:
        pool.putconn(pool.getconn())
    except PoolDeadlock as error:
        told.append(str(error))

thread = threading.Thread(target=outer, name="second")
thread.start()
outer()
thread.join()
print(told[0])
"""


@pytest.mark.fault(41)
def test_pain_21_when_every_thread_waits_that_is_said_at_once_and_where(town, tmp_path):
    script = script_of(tmp_path, NESTED, town)
    with Stopwatch() as watch:
        told = run(script)
    assert watch.seconds < 20  # and not 60
    line = {text.strip(): number for number, text in enumerate(script.read_text(encoding="utf-8").splitlines(), 1)}
    outer, inner = line["conn = pool.getconn()"], line["pool.putconn(pool.getconn())"]
    for name in ("MainThread", "second"):
        got, stands = f"(got it at {script}:{outer} in outer)", f"now at {script}:{inner} in inner"
        assert re.search(rf"thread '{name}' for \S+ s {re.escape(got)}, {re.escape(stands)}", told), told
    assert "every thread of the process waits for this pool" in told


@pytest.mark.fault(41)
def test_pain_21_a_timeout_says_that_all_holders_wait_themselves(town, make):
    pool = make(town.dsn, 0, 2)
    both = threading.Barrier(2)

    def take_two(timeout):
        with pool.connection():
            both.wait(20)
            pool.putconn(pool.getconn(timeout=timeout))

    patient, impatient = Caller(take_two, 20), Caller(take_two, 0.3)
    with pytest.raises(PoolTimeout, match="each of them waits for this pool itself"):
        impatient.result()
    patient.result()


def test_pain_21_nested_blocks_can_share_one_connection(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver, kind=PersistentConnectionPool, timeout=1)
    with pool.connection() as outer:
        tell(outer, "SELECT set_config('pains.nested', 'here', true)")
        with pool.connection() as inner:
            assert pid_of(inner) == pid_of(outer)
            assert ask(inner, "SELECT current_setting('pains.nested')") == "here"
        assert ask(outer, "SELECT current_setting('pains.nested')") == "here"  # the transaction goes on
    assert pool.stats().idle == 1


def test_pain_21_nested_blocks_can_share_one_connection_by_a_key(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver, timeout=1)
    with pool.connection("request 7") as outer, pool.connection("request 7") as inner:
        assert inner is outer
    assert pool.stats().idle == 1
