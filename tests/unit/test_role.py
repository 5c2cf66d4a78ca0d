"""Servers that take writes and servers that do not: role=, and what a read-only error does."""

from __future__ import annotations

import pytest
from fakes import ReadOnlyError

from dbpool import PoolError, PoolTimeout

from .threads import Caller, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")

ROLES = [("read-write", True), ("read-only", False)]


@pytest.fixture
def serve(driver, make, waiting_kind):
    """A pool whose servers say, one after the other, whether they take writes; the last one goes on."""

    def serve(answers, kind=waiting_kind, minconn=0, maxconn=2, **options):
        pool, real = make(kind, 0, maxconn, **options), driver.connect

        def connect():
            conn = real()
            conn.writable = answers[min(conn.number, len(answers)) - 1]
            return conn

        pool._opener.connector._connect = connect
        return pool

    return serve


def fail(pool, error, key=None):
    with pytest.raises(type(error)), pool.connection(key) as conn:
        raise error
    return conn


# ---- role= -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "writable"), ROLES)
def test_the_wanted_role_is_let_in(serve, kind, role, writable):
    conn = serve([writable], kind, role=role).getconn()
    assert conn.pings == 1


@pytest.mark.parametrize(("role", "writable"), ROLES)
def test_the_other_role_is_refused_and_closed(serve, driver, role, writable, kind):
    pool = serve([not writable], kind, role=role)
    with pytest.raises(PoolError, match=f"the server is read-.*, and role='{role}'"):
        pool.getconn(timeout=0)
    assert driver.made[0].closes == 1
    assert pool.stats().size == 0


def test_who_waits_is_served_once_the_server_has_been_promoted(serve, driver, monkeypatch):
    monkeypatch.setattr("dbpool.opening.FIRST_PAUSE", 0.002)
    pool = serve([False, False, True], role="read-write", timeout=60)
    assert pool.getconn().number == 3
    assert [conn.closes for conn in driver.made] == [1, 1, 0]


def test_a_timeout_says_what_the_server_was(serve, clock):
    pool = serve([False], role="read-write", timeout=5)
    caller = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    clock.leap(6.0)
    with pytest.raises(PoolTimeout) as caught:
        caller.result()
    assert "the server is read-only, and role='read-write'" in str(caught.value.__cause__)


def test_each_ping_asks_for_the_role_again(serve, kind, clock):
    pool = serve([True], kind, role="read-write", ping_after=60.0)
    conn = pool.getconn()
    pool.putconn(conn)
    conn.writable = False
    clock.leap(60.0)
    assert pool.getconn() is not conn
    assert pool.stats().discards == {"lost": 1}


def test_what_has_no_such_notion_is_let_in(serve):
    assert serve([None], role="read-write").getconn().pings == 1


def test_without_a_role_nobody_is_asked(serve, kind):
    assert serve([False], kind).getconn().pings == 0


# ---- a read-only error -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a key"])
def test_a_read_only_error_retires_its_connection(make, kind, key):
    pool = make(kind)
    conn = fail(pool, ReadOnlyError(), key)
    assert conn.closes == 1
    assert pool.stats().discards == {"read-only": 1}


@pytest.mark.parametrize("role", [None, "read-write"])
def test_the_others_are_asked_whether_they_take_writes(serve, kind, role):
    pool = serve([True, True, True, False, True], kind, maxconn=3, role=None)
    conns = [pool.getconn() for _ in range(3)]
    for conn in conns:
        pool.putconn(conn)
        conn.pings = 0
    fail(pool, ReadOnlyError())
    assert [conn.pings for conn in conns] == [0, 0, 0]
    for _ in range(2):
        conn = pool.getconn()
        assert conn is conns[1]
        pool.putconn(conn)
    assert conns[1].pings == 1, "asked once"


def test_one_that_takes_no_writes_any_more_is_replaced(serve, kind):
    pool = serve([True, True, True], kind)
    first, second = pool.getconn(), pool.getconn()
    pool.putconn(first)
    pool.putconn(second)
    first.writable = second.writable = False
    fail(pool, ReadOnlyError())
    conn = pool.getconn()
    assert conn.number == 3
    assert pool.stats().discards == {"read-only": 1, "lost": 1}


def test_a_check_asks_them_too(serve, kind):
    pool = serve([True, True, True], kind)
    first, second = pool.getconn(), pool.getconn()
    pool.putconn(first)
    pool.putconn(second)
    first.writable = False
    fail(pool, ReadOnlyError())
    assert pool.check().discards == {"read-only": 1, "lost": 1}


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_another_error_retires_nothing(make, kind, error):
    pool = make(kind)
    conn = fail(pool, error)
    assert not conn.closes
    assert pool.getconn() is conn
    assert conn.pings == 0


def test_a_read_only_error_that_is_caught_inside_retires_nothing(make, kind):
    pool = make(kind)
    with pool.connection() as conn:
        try:
            raise ReadOnlyError
        except ReadOnlyError:
            pass
    assert not conn.closes


def test_a_read_only_error_of_an_inner_block_counts(make):
    pool = make()
    with pool.connection("key") as conn, pytest.raises(ReadOnlyError), pool.connection("key"):
        raise ReadOnlyError
    assert conn.closes == 1


def test_a_connection_that_was_closed_inside_its_block_is_no_hindrance(make, kind):
    pool = make(kind)

    def close_and_fail():
        pool.closeall()
        raise ReadOnlyError

    with pytest.raises(ReadOnlyError), pool.connection():
        close_and_fail()
    pool._roll_back(object(), ReadOnlyError())
