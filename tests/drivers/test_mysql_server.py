"""MySQL's drivers and their server: refusals, roles, sessions that end, a server that hangs, and forks."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from asking import ask, tell
from forking import IN_CHILD
from pains.sessions import MARGIN, Stopwatch
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolError, PoolExhausted, PoolTimeout

from .mysqls import (
    NAMES,
    killed,
    lone,
    number_of,
    reasons,
    reopened,
    sessions,
)

HERE = Path(__file__).resolve().parents[2]

# ---- refusals --------------------------------------------------------------------------------------------------------


PERMANENT = [{"password": "hunter2"}, {"database": "nowhere"}, {"host": "no-such-host.invalid", "unix_socket": None}]


@pytest.mark.parametrize("changed", PERMANENT, ids=["password", "database", "host"])
def test_a_refusal_for_good_fails_who_waits_at_once(mysql, changed):
    arguments = {**mysql.arguments[0], **changed}
    wrong = type(mysql)(**{name: value for name, value in arguments.items() if value is not None})
    with lone(wrong, timeout=60) as pool:
        with Stopwatch() as watch, pytest.raises(mysql.module.OperationalError):
            pool.getconn()
        assert watch.seconds < 20
        assert pool.stats().connect_errors == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyMySQL: a socket it has not closed
def test_a_server_that_is_not_there_is_waited_for(mysql):
    away = reopened(mysql, unix_socket="/nowhere/at/all")
    with lone(away) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=2)
        assert isinstance(caught.value, mysql.module.Error)
        assert isinstance(caught.value.__cause__, mysql.module.OperationalError)
        assert pool.stats().connect_errors >= 2
    del caught, pool  # whose errors hold the frames that hold the sockets
    gc.collect()


LIMITS = {
    "of all": ("SET GLOBAL max_connections = 10", "SET GLOBAL max_connections = 151"),
    "of the account": ("ALTER USER guest@localhost WITH MAX_USER_CONNECTIONS 3", "DO 0"),
}


@pytest.mark.parametrize("whose", LIMITS)
def test_too_many_connections_are_waited_for(mysql, other, guest, whose):
    limit, unlimit = LIMITS[whose]
    taken = []
    tell(other, limit)
    try:
        with contextlib.suppress(mysql.module.Error):
            while len(taken) < 20:
                taken.append(guest.connect())
        assert 0 < len(taken) < 20
        with lone(guest) as pool:
            caller = Caller(pool.getconn, timeout=20)
            eventually(lambda: pool.stats().connect_errors >= 2)
            assert not caller.ended
            taken.pop().close()
            pool.putconn(caller.result(20))
    finally:
        tell(other, unlimit)
        for conn in taken:
            conn.close()


CODES = {
    "transient": {1040: "", 1203: "", 1053: "", 2002: "", 2003: "", 2005: "Unknown server host 'db' (-3)", 2006: "",
                  2013: "", 2055: "", 4031: "", 9001: "", 2026: "SSL connection error: unexpected eof"},
    "permanent": {1044: "", 1045: "", 1049: "", 1130: "", 2005: "Unknown server host 'db' (-2)", 2059: "",
                  2026: "SSL connection error: certificate has expired", 2003: "[Errno -2] Name or service not known"},
    None: {1054: "Unknown column", 1064: "", 1213: "Deadlock found", "text": ""},
}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "text", "expected"), [(code, text, kind) for kind, codes in CODES.items() for code, text in codes.items()]
)
def test_what_the_numbers_mean(mysql, code, text, expected):
    assert NAMES[mysql.driver]().refusal(mysql.module.OperationalError(code, text)) == expected


def test_what_is_no_error_of_the_driver_means_nothing(mysql):
    connector = NAMES[mysql.driver]()
    assert connector.refusal(OSError(2003, "a stranger's")) is None
    assert not connector.is_read_only(None, OSError(1836, "a stranger's"))
    assert connector.refusal(mysql.module.OperationalError()) is None


# ---- the server's role -----------------------------------------------------------------------------------------------


@pytest.fixture
def demoted(other):
    """Makes the server read-only, as after a failover; ends it with the test."""
    yield lambda: tell(other, "SET GLOBAL read_only = 1")
    tell(other, "SET GLOBAL read_only = 0")


def write(pool, number):
    with pool.connection() as conn:
        tell(conn, f"INSERT INTO item VALUES ({number}, '')")


def test_a_connection_whose_server_takes_no_writes_any_more_is_retired(mysql, other, guest, demoted):
    with lone(guest) as pool:
        write(pool, 2)
        demoted()
        with pytest.raises(mysql.module.OperationalError, match="read-only"):
            write(pool, 3)
        assert reasons(pool) == {"read-only": 1}
        tell(other, "SET GLOBAL read_only = 0")
        write(pool, 3)
        assert ask(other, "SELECT count(*) FROM item") == 3


def test_who_has_asked_for_a_transaction_that_only_reads_keeps_the_connection(mysql, other):
    with lone(mysql) as pool:
        with pytest.raises(mysql.module.Error, match="READ ONLY"), pool.connection() as conn:
            tell(conn, "START TRANSACTION READ ONLY", "INSERT INTO item VALUES (3, '')")
        assert pool.getconn() is conn


def test_another_option_that_is_in_the_way_is_not_read_only(mysql):
    connector = NAMES[mysql.driver]()
    error = mysql.module.OperationalError(1290, "running with the --secure-file-priv option")
    assert not connector.is_read_only(None, error)
    assert connector.is_read_only(None, mysql.module.OperationalError(1836, "Running in read-only mode"))


def test_role_is_asked_of_the_server(mysql, guest, demoted):
    with lone(guest, role="read-write", ping_after=0) as pool:
        lease_all(pool)
        with pytest.raises(PoolTimeout, match="no connection") as caught, guest.pool(role="read-only") as readers:
            readers.getconn(timeout=2)
        assert "role='read-only'" in str(caught.value.__cause__)
        demoted()
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0.3)
        with guest.pool(role="read-only") as readers:
            lease_all(readers)


# ---- sessions that end -----------------------------------------------------------------------------------------------


def test_a_session_killed_while_idle_is_not_handed_out(mysql, other):
    with mysql.pool(minconn=1, maxconn=1, check_after=0, ping_after=None) as pool:
        with pool.connection() as conn:
            number = number_of(conn)
        del conn
        killed(other, number)
        with pool.connection() as conn:
            assert number_of(conn) != number
        assert reasons(pool) == {"lost": 1}


@pytest.mark.parametrize("used", [False, True], ids=["unseen", "after an error"])
def test_putting_what_was_killed_raises_nothing_and_counts_as_lost(mysql, other, used):
    with lone(mysql) as pool:
        conn = pool.getconn()
        tell(conn, "INSERT INTO item VALUES (2, '')")
        killed(other, number_of(conn))
        if used:
            with pytest.raises(mysql.module.OperationalError):
                ask(conn, "SELECT 1")
        pool.putconn(conn)
        assert reasons(pool) == {"lost": 1}
        lease_all(pool)
        assert adds_up(pool)


def test_what_its_user_has_closed_is_not_lost_and_frees_its_slot(mysql):
    with lone(mysql) as pool:
        conn = pool.getconn()
        conn.close()
        assert not pool._opener.is_lost(conn)
        pool.putconn(conn)
        lease_all(pool)


def test_a_lost_connection_of_mysqlclient_tells_no_descriptor(mysql, other):
    """The library goes on telling the number, which may be another's by now."""
    connector = NAMES[mysql.driver]()
    with closing(mysql.connect()) as conn:
        assert connector.fileno(conn) is not None
        assert not connector.is_lost(conn)
        killed(other, number_of(conn))
        with pytest.raises(mysql.module.OperationalError):
            connector.ping(conn)
        assert connector.fileno(conn) is None
        assert connector.is_lost(conn)
        assert connector.unfit(conn)


def test_a_ping_does_not_reconnect(mysql, other):
    connector = NAMES[mysql.driver]()
    conn = mysql.connect()
    number = number_of(conn)
    killed(other, number)
    for _ in range(2):
        with pytest.raises(mysql.module.Error):
            connector.ping(conn)
    conn.close()


@pytest.fixture
def brief(other):
    """Has the server end new sessions that are idle for one second."""
    tell(other, "SET GLOBAL wait_timeout = 1")
    yield
    tell(other, "SET GLOBAL wait_timeout = 28800")


def test_a_session_that_is_kept_alive_outlives_wait_timeout(mysql, other, brief):
    with closing(mysql.connect()) as canary, mysql.pool(minconn=1, maxconn=1, ping_interval=0.2) as pool:
        with pool.connection() as conn:
            number = number_of(conn)
        doomed = number_of(canary)
        assert {number, doomed} <= sessions(other)
        eventually(lambda: doomed not in sessions(other))  # it was not kept alive
        with closing(mysql.connect()) as second:
            eventually(lambda: number_of(second) not in sessions(other))
        with pool.connection() as conn:
            assert number_of(conn) == number
        assert reasons(pool) == {}


def test_a_session_that_wait_timeout_has_ended_is_not_handed_out(mysql, other, brief):
    with mysql.pool(minconn=1, maxconn=1, ping_after=None) as pool:
        with pool.connection() as conn:
            number = number_of(conn)
        eventually(lambda: number not in sessions(other))
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1


def test_a_wait_timeout_that_is_shorter_than_ours_is_told(mysql, other, brief, caplog):
    caplog.set_level(logging.WARNING)
    with mysql.pool(minconn=1, name="shop"):
        pass
    assert "shop: the server ends sessions that are idle for 1 s (wait_timeout)" in caplog.text


# ---- a server that hangs ---------------------------------------------------------------------------------------------


def test_a_frozen_server_costs_a_getconn_its_timeout_at_most(mysql, frozen):
    with lone(mysql, ping_after=0, check_timeout=0.3, timeout=0.8) as pool:
        lease_all(pool)
        with frozen():
            with Stopwatch() as watch, pytest.raises(PoolExhausted):
                pool.getconn()
            assert watch.seconds < 0.8 + MARGIN
        lease_all(pool)


def test_a_frozen_server_costs_check_timeout_when_a_connection_comes_back(mysql, frozen):
    with lone(mysql, check_timeout=0.3) as pool:
        conn = pool.getconn()
        conn.begin()
        with frozen():
            with Stopwatch() as watch:
                pool.putconn(conn)
            assert watch.seconds < 0.3 + MARGIN
        assert reasons(pool) == {"lost": 1}
        lease_all(pool)


# ---- threads, forks, and what is dropped -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the pool's own, of the leak
def test_a_dropped_connection_comes_back_without_the_garbage_collector(mysql):
    gc.disable()
    try:
        with lone(mysql) as pool:
            conn = pool.getconn()
            ask(conn, "SELECT 1")
            del conn
            lease_all(pool)
    finally:
        gc.enable()


FORK = """
import {driver} as driver
from dbpool import PoolError, ThreadedConnectionPool

def ask(conn, query="SELECT connection_id()"):
    cursor = conn.cursor()
    cursor.execute(query)
    return cursor.fetchone()[0]

pool = ThreadedConnectionPool(0, 3, {arguments!r}, connect=driver)
idle, leased = pool.getconn(), pool.getconn()
numbers = [ask(idle), ask(leased)]
leased.begin()
pool.putconn(idle)

@in_child
def child():
    global idle, leased
    with pool.connection() as conn:
        assert ask(conn) not in numbers
    del idle, leased

assert ask(leased, "SELECT @@in_transaction") == 1
with pool.connection() as conn:
    assert ask(conn) == numbers[0]
pool.putconn(leased)
pool.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_child_cannot_end_the_parents_sessions(mysql):
    text = IN_CHILD + FORK.format(driver=mysql.driver, arguments=mysql.arguments[0])
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_password_is_shown(mysql):
    wrong = reopened(mysql, password="hunter2")
    with pytest.raises(mysql.module.OperationalError) as caught:
        wrong.pool(minconn=1)
    shown = [str(caught.value), repr(caught.value), str(caught.value.__dict__)]
    with wrong.pool() as pool:
        shown += [repr(pool), repr(pool._opener.args)]
    assert not [text for text in shown if "hunter2" in text]


def test_the_errors_of_the_pool_are_the_drivers_too(mysql):
    with lone(mysql) as pool:
        conn = pool.getconn()
        for call, kind in (
            (lambda: pool.getconn(timeout=0), PoolExhausted),
            (lambda: pool.putconn(object()), PoolError),
        ):
            with pytest.raises(kind) as caught:
                call()
            assert isinstance(caught.value, mysql.module.Error)
        pool.putconn(conn)
