"""verdict(): each cause made to happen on a real PostgreSQL, to pools for threads and for tasks."""

from __future__ import annotations

import gc
import re
import threading
import warnings
from contextlib import suppress

import pytest
from asking import tell
from onloop import OnLoop, end
from pains.sessions import dsn_of, lease, order, pid_of, put_all
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool import ThreadedConnectionPool
from dbpool.verdict import EXHAUSTED, HEALTHY, LEAK, MISCONFIGURED, REFUSES, SLOW

psycopg2 = import_or_skip("psycopg2")
pytestmark = pytest.mark.parametrize("kind", [ThreadedConnectionPool, OnLoop], ids=["threads", "tasks"])


@pytest.fixture(autouse=True)
def _loop_ends():
    yield
    end()


def waiting(pool, callers=1):
    """Have so many callers wait."""
    begun = [Caller(pool.getconn) for _ in range(callers)]
    eventually(lambda: pool.stats().waiting == callers)
    return begun


def served(pool, callers):
    """See them served."""
    for caller in callers:
        with suppress(Exception):
            pool.putconn(caller.result())


def test_healthy(town, make, kind):
    pool = make(town.dsn, 1, 3, kind=kind)
    held = lease(pool, 2)
    assert pool.verdict().code == HEALTHY
    put_all(pool, held)
    assert pool.verdict().text == "0 of 3 in use, 2 idle, 0 waiting"


def test_exhausted_by_whom_and_since_when(town, make, kind):
    pool = make(town.dsn, 0, 2, kind=kind, timeout=20, trace=True)
    history = pool.history(60, 0.01)
    held = lease(pool, 2)
    callers = waiting(pool, 3)
    eventually(lambda: history.full_since() is not None)
    found = pool.verdict()
    assert (found.code, len(found.who)) == (EXHAUSTED, 2)
    assert re.search(r"all 2 connections are in use, 3 callers wait, the first for 0\.\d s; held by (a )?t", found.text)
    assert 0 < found.since < 10
    put_all(pool, held)
    served(pool, callers)
    assert pool.verdict().code == HEALTHY


def test_the_database_refuses_why_and_since_when_and_is_well_again(inn, make, kind):
    pool = make(inn.dsn, 0, 2, kind=kind, timeout=20)
    inn.stop("immediate")
    callers = waiting(pool)
    eventually(lambda: pool.verdict().code == REFUSES)
    found = pool.verdict()
    assert re.search(r"no connection can be opened, for \d\.\d s: OperationalError: .*refused|No such file", found.text)
    assert found.since is not None
    inn.start()
    served(pool, callers)
    assert pool.verdict().code == HEALTHY


def test_a_database_that_is_frozen_while_callers_ask_it(town, make, kind, freeze):
    pool = make(town.dsn, 0, 2, kind=kind, timeout=20)
    held = lease(pool, 2)
    for conn in held:
        freeze(town, pid_of(conn))
    asking = [Caller(tell, conn, "SELECT 1") for conn in held]
    callers = waiting(pool)
    eventually(lambda: pool.verdict().code == SLOW)
    found = pool.verdict()
    assert "2 of 2 wait for the database's answer" in found.text
    assert len(found.who) == 2
    for conn in held:
        town.resume(pid_of(conn))
    for each in asking:
        each.result()
    put_all(pool, held)
    served(pool, callers)
    assert pool.verdict().code == HEALTHY


def test_a_database_that_lets_nobody_in_any_more(inn, make, kind, freeze):
    pool = make(dsn_of(inn), 0, 2, kind=kind, timeout=20, connect_timeout=1.5)
    freeze(inn, inn.pid)
    callers = waiting(pool)
    eventually(lambda: pool.verdict().code == SLOW)
    assert "a connect is under way for 1." in pool.verdict().text
    eventually(lambda: "connecting takes longer than it may" in pool.verdict().text)
    inn.resume()
    served(pool, callers)


def test_a_database_that_does_not_answer_a_ping(town, make, kind, freeze):
    pool = make(town.dsn, 0, 1, kind=kind, check_timeout=0.3, ping_after=0)
    conn = pool.getconn()
    pid = pid_of(conn)
    pool.putconn(conn)
    freeze(town, pid)
    pool.putconn(pool.getconn())
    found = pool.verdict()
    assert (found.code, "did not answer within check_timeout" in found.text) == (SLOW, True)


def test_a_leak_and_its_place(town, make, kind):
    pool = make(town.dsn, 0, 2, kind=kind, timeout=20, trace=True, leak_threshold=0.2)

    def forgetful():
        return pool.getconn()

    held = [Caller(forgetful).result() for _ in range(2)]
    callers = waiting(pool)
    eventually(lambda: pool.verdict().code == LEAK)
    found = pool.verdict()
    assert len(found.who) == 2
    assert found.place.endswith("in forgetful") or kind is OnLoop  # there the task is a helper's of the tests
    assert found.place in found.text
    put_all(pool, held)
    served(pool, callers)
    assert pool.verdict().code == HEALTHY


def test_a_leak_of_what_was_dropped(town, make, kind):
    pool = make(town.dsn, 0, 1, kind=kind, timeout=20, trace=True)

    def forget():
        pool.getconn()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        thread = threading.Thread(target=forget)
        thread.start()
        thread.join()
        gc.collect()
        pool.putconn(pool.getconn())
    found = pool.verdict()
    assert (found.code, "was dropped without putconn" in found.text) == (LEAK, True)
    assert found.place is not None


def test_misconfigured_by_a_password_that_is_wrong(town, make, kind):
    pool = make(dsn_of(town, password="wrong"), 0, 2, kind=kind, timeout=5)
    with pytest.raises(psycopg2.OperationalError):
        pool.getconn()
    eventually(lambda: pool.verdict().code == MISCONFIGURED)
    assert "password authentication failed" in pool.verdict().text


def test_misconfigured_by_more_connections_than_the_server_has(inn, make, kind):
    order(inn, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN CONNECTION LIMIT 2")
    pool = make(inn.dsn.replace("user=postgres", "user=guest"), 0, 9, kind=kind, timeout=20)
    held = lease(pool, 2)
    callers = waiting(pool)
    eventually(lambda: pool.verdict().code == MISCONFIGURED)
    assert "maxconn is 9, and the database lets us have 2" in pool.verdict().text
    put_all(pool, held)
    served(pool, callers)


def test_misconfigured_by_a_limit_of_the_servers_that_is_shorter(town, make, kind):
    pool = make(f"{town.dsn} options='-c idle_session_timeout=60s'", 0, 2, kind=kind)
    pool.putconn(pool.getconn())
    found = pool.verdict()
    assert found.code == MISCONFIGURED
    assert found.text.startswith(
        "the server ends sessions that are idle for 60 s (idle_session_timeout): set ping_inte"
    )
