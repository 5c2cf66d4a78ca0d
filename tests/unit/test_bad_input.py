"""Bad input: a clear error that names the argument, and nothing is opened, changed or lost."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from fakes import FakeConnection, FakeConnector, FakeDriver, OperationalError

from dbpool import (
    AbstractConnectionPool,
    Connector,
    PersistentConnectionPool,
    PoolClosed,
    PoolError,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)

from .checks import adds_up, lease_all, unchanged
from .threads import Caller

NAN = float("nan")


# ---- the constructor ---------------------------------------------------------------------------------------

SIZES = [
    (3, 2, ValueError, "minconn"), (-1, 2, ValueError, "minconn"), (0, 0, ValueError, "maxconn"),
    (0, -1, ValueError, "maxconn"), (-2, -1, ValueError, "minconn"), (NAN, 2, TypeError, "minconn"),
    (1, NAN, TypeError, "maxconn"), (1.0, 2, TypeError, "minconn"), (1, 2.0, TypeError, "maxconn"),
    (True, 2, TypeError, "minconn"), (1, True, TypeError, "maxconn"), ("1", 2, TypeError, "minconn"),
    (1, "2", TypeError, "maxconn"), (None, 2, TypeError, "minconn"), (1, None, TypeError, "maxconn"),
    (1, float("inf"), TypeError, "maxconn"), ([1], 2, TypeError, "minconn"),
]  # fmt: skip


@pytest.mark.fault(67)
@pytest.mark.parametrize(("minconn", "maxconn", "error", "name"), SIZES)
def test_wrong_sizes_are_refused_and_nothing_is_opened(any_kind, driver, minconn, maxconn, error, name):
    with pytest.raises(error, match=rf"\b{name}\b"):
        any_kind(minconn, maxconn, connect=FakeConnector(driver.connect))
    assert driver.calls == 0


@pytest.mark.parametrize(("minconn", "maxconn", "error", "name"), SIZES)
def test_resizing_to_wrong_sizes_changes_nothing(make, any_kind, driver, minconn, maxconn, error, name):
    pool = make(any_kind, 1, 2)
    with unchanged(pool, driver), pytest.raises(error, match=rf"\b{name}\b"):
        pool.resize(minconn, maxconn)
    assert (pool.minconn, pool.maxconn) == (1, 2)
    lease_all(pool)


def test_an_unknown_option_is_refused_and_nothing_is_opened(any_kind, driver):
    with pytest.raises(TypeError, match="timeuot"):
        any_kind(1, 2, connect=FakeConnector(driver.connect), config={"timeuot": 5})
    assert driver.calls == 0


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout", NAN), ("timeout", -1), ("timeout", True), ("timeout", "5"), ("max_uses", 0), ("reset", "wash")],
)
def test_a_wrong_option_is_refused_and_nothing_is_opened(any_kind, driver, option, value):
    with pytest.raises((TypeError, ValueError), match=rf"\b{option}\b"):
        any_kind(1, 2, connect=FakeConnector(driver.connect), config={option: value})
    assert driver.calls == 0


@pytest.mark.parametrize("config", [5, "timeout=5", ["timeout"]])
def test_a_config_that_is_none_is_refused_and_nothing_is_opened(any_kind, driver, config):
    with pytest.raises(TypeError, match=r"\bconfig\b"):
        any_kind(1, 2, connect=FakeConnector(driver.connect), config=config)
    assert driver.calls == 0


@pytest.mark.parametrize(
    "connect", [5, "psycopg2", object(), FakeConnector, Connector, ModuleType("empty"), False, [print], {}],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_a_connect_that_is_neither_callable_module_nor_connector_is_refused(any_kind, connect):
    with pytest.raises(TypeError, match=r"\bconnect\b"):
        any_kind(0, 1, connect=connect)


def test_a_connector_that_cannot_connect_says_what_it_needs(any_kind):
    with pytest.raises(TypeError, match="connect"):
        any_kind(1, 1, connect=Connector())


@pytest.mark.parametrize("name", ["connect", "close", "reset"])
def test_a_connector_refuses_what_cannot_be_called(name):
    with pytest.raises(TypeError, match=rf"\b{name}\b"):
        Connector(**{name: 5})


def test_a_driver_that_is_not_installed_is_named_with_its_extra(any_kind, monkeypatch):
    for name in ("psycopg2", "ksycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"\bconnect\b.*psycopg2 nor ksycopg2 is installed.*\[psycopg2\]"):
        any_kind(0, 1, "dbname=orders")


def test_a_driver_that_is_broken_is_not_called_missing(any_kind, monkeypatch, tmp_path):
    (tmp_path / "psycopg2.py").write_text("import no_such_library", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "psycopg2", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        any_kind(0, 1, "dbname=orders")


@pytest.mark.parametrize("minconn", [0, 1])
def test_a_connect_that_returns_none_is_refused(any_kind, minconn):
    def use():
        pool = any_kind(minconn, 1, connect=lambda: None, config={"timeout": 5})
        pool.getconn()

    with pytest.raises(TypeError, match=r"\bconnect\b.* None"):
        use()


def test_a_connect_that_returned_none_has_not_lost_its_slot(any_kind, driver):
    answers = [None]
    pool = any_kind(0, 1, connect=FakeConnector(lambda: answers.pop() if answers else driver.connect()))
    with pytest.raises(TypeError, match="connect"):
        pool.getconn()
    lease_all(pool)
    pool.close()


def test_a_reset_level_that_the_driver_does_not_know_is_refused(any_kind, driver):
    with pytest.raises(ValueError, match=r"\breset\b.*session"):
        any_kind(1, 2, connect=FakeConnector(driver.connect), config={"reset": "session"})
    assert driver.calls == 0


@pytest.mark.parametrize("kind_without_threads", [AbstractConnectionPool, SimpleConnectionPool])
def test_a_start_that_needs_threads_is_refused_where_there_are_none(driver, kind_without_threads):
    with pytest.raises(ValueError, match=r"\bstart\b"):
        kind_without_threads(1, 2, connect=FakeConnector(driver.connect), config={"start": "background"})
    with pytest.raises(ValueError, match=r"\bstart\b.*\bbackground\b"):
        ThreadedConnectionPool(
            1, 2, connect=FakeConnector(driver.connect), config={"start": "background", "background": False}
        )
    assert driver.calls == 0


SECRET = "host=db user=app password=hunter2"


@pytest.mark.parametrize(
    "arguments", [(SECRET, 1, 5), (1, SECRET, 5), (1, 5, {"config": SECRET}), (1, 5, {"connect": SECRET})]
)
def test_a_dsn_in_the_wrong_place_is_not_repeated_in_the_message(any_kind, arguments):
    keywords = arguments[2] if isinstance(arguments[2], dict) else {"connect": FakeDriver().connect}
    with pytest.raises((TypeError, ValueError)) as caught:
        any_kind(*arguments[:2], **keywords)
    assert "hunter2" not in str(caught.value)


# ---- getconn and close -------------------------------------------------------------------------------------

TIMEOUTS = [(NAN, ValueError), (-1, ValueError), (float("inf"), ValueError), (True, TypeError), ("5", TypeError)]


@pytest.mark.parametrize(("timeout", "error"), TIMEOUTS)
@pytest.mark.parametrize("minconn", [0, 1], ids=["when one must be opened", "when one is idle"])
def test_a_wrong_timeout_of_getconn_is_refused(make, any_kind, driver, timeout, error, minconn):
    pool = make(any_kind, minconn, 2)
    with unchanged(pool, driver), pytest.raises(error, match=r"\btimeout\b"):
        pool.getconn(timeout=timeout)
    lease_all(pool)


@pytest.mark.parametrize(("timeout", "error"), TIMEOUTS)
def test_a_wrong_timeout_of_close_is_refused_and_the_pool_stays_open(make, any_kind, driver, timeout, error):
    pool = make(any_kind, 1, 2)
    with unchanged(pool, driver), pytest.raises(error, match=r"\btimeout\b"):
        pool.close(timeout=timeout)
    lease_all(pool)


@pytest.mark.parametrize("close", ["closeall", "close"])
def test_getconn_after_close_says_that_the_pool_is_closed(make, any_kind, driver, close):
    pool = make(any_kind, 1, 2)
    getattr(pool, close)()
    with unchanged(pool, driver), pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
        pool.getconn()
    with unchanged(pool, driver), pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
        pool.open()


# ---- putconn -----------------------------------------------------------------------------------------------


def test_putting_none_is_refused(make, any_kind, driver):
    pool = make(any_kind, 1, 2)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"^trying to put unkeyed connection.*\bconn is None"):
        pool.putconn(None)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"\bconn is None"):
        pool.putconn()
    lease_all(pool)


FOREIGN = [FakeConnection(99), object(), 5, "conn", [], PoolError]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("close", [False, True])
def test_putting_a_foreign_connection_is_refused_and_it_stays_open(make, any_kind, driver, foreign, close):
    pool = make(any_kind, 1, 2)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"^trying to put unkeyed connection.*\bconn\b"):
        pool.putconn(foreign, close=close)
    assert not getattr(foreign, "closed", False)
    lease_all(pool)


def test_putting_a_connection_of_another_pool_is_refused_and_both_stay_whole(make, any_kind, driver):
    pool, other = make(any_kind, 1, 2), make(any_kind, 1, 2, name="other")
    conn = other.getconn()
    with unchanged(pool, driver), unchanged(other, driver), pytest.raises(PoolError, match=rf"\bconn\b.*'{pool.name}'"):
        pool.putconn(conn)
    other.putconn(conn)
    lease_all(pool)
    lease_all(other)


@pytest.mark.parametrize("close", [False, True])
def test_putting_a_connection_twice_is_refused(make, any_kind, driver, close):
    pool = make(any_kind, 1, 2)
    conn = pool.getconn()
    pool.putconn(conn)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"^trying to put unkeyed connection"):
        pool.putconn(conn, close=close)
    assert not conn.closed
    lease_all(pool)


def test_putting_a_connection_twice_that_was_closed_is_refused(make, any_kind, driver):
    pool = make(any_kind, 1, 2)
    conn = pool.getconn()
    pool.putconn(conn, close=True)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"^trying to put unkeyed connection"):
        pool.putconn(conn)
    lease_all(pool)


def test_putting_a_connection_that_its_user_closed_frees_the_slot(make, any_kind, driver):
    pool = make(any_kind, 1, 1)
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    assert pool.stats().idle == 0
    assert lease_all(pool) != [conn]
    assert adds_up(pool)


@pytest.mark.parametrize("leased_under", [None, 0, "", "a", ("a", 1)])
@pytest.mark.parametrize("given", ["b", 7, (), ("a", 2)])
@pytest.mark.parametrize("close", [False, True])
def test_putting_with_a_wrong_key_is_refused_and_the_lease_goes_on(make, kind, driver, leased_under, given, close):
    pool = make(kind, 1, 2)
    conn = pool.getconn(leased_under)
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"\bkey="):
        pool.putconn(conn, given, close)
    assert not conn.closed
    assert conn in pool._used.values()
    pool.putconn(conn, leased_under)
    lease_all(pool)


def test_putting_none_with_a_key_is_refused(make, kind, driver):
    pool = make(kind, 1, 2)
    conn = pool.getconn("a")
    with unchanged(pool, driver), pytest.raises(PoolError, match=r"\bconn\b"):
        pool.putconn(None, "a")
    pool.putconn(conn, "a")
    lease_all(pool)


@pytest.mark.parametrize("close", ["closeall", "close"])
@pytest.mark.parametrize("key", [None, "a"])
def test_putting_after_close_says_that_the_pool_is_closed(make, kind, driver, close, key):
    pool = make(kind, 1, 2)
    conn = pool.getconn(key)
    pool.closeall() if close == "closeall" else pool.close(timeout=0)
    assert conn.closes == 1
    with unchanged(pool, driver), pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
        pool.putconn(conn)
    with unchanged(pool, driver), pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
        pool.putconn(None)
    assert conn.closes == 1


def test_a_threads_own_connection_cannot_be_put_after_close(make):
    pool = make(PersistentConnectionPool, 1, 2)
    conn = pool.getconn()
    pool.closeall()
    for put in (lambda: pool.putconn(conn), pool.putconn):
        with pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
            put()


def test_a_connection_put_by_another_thread_is_refused_if_the_thread_is_the_key(make, driver):
    pool = make(PersistentConnectionPool, 1, 2)
    conn = pool.getconn()
    with unchanged(pool, driver), pytest.raises(PoolError, match="trying to put"):
        Caller(pool.putconn, conn).result()
    assert pool.getconn() is conn
    pool.putconn(conn)
    lease_all(pool)


def test_a_key_is_refused_where_the_thread_is_the_key(make):
    pool = make(PersistentConnectionPool, 1, 2)
    with pytest.raises(TypeError, match=r"\bkey\b"):
        pool.connection("a")
    with pytest.raises(TypeError, match=r"\bkey\b"):
        pool.getconn(key="a")
    lease_all(pool)


# ---- what users plug in ------------------------------------------------------------------------------------


def test_a_reset_that_raises_has_the_connection_closed_and_the_slot_freed(make, any_kind, driver):
    def reset(conn):
        raise OperationalError("cannot")

    pool = make(any_kind, 0, 1, reset=reset)
    conn = pool.getconn()
    pool.putconn(conn)
    assert conn.closes == 1
    assert pool.stats().discards == {"reset failed": 1}
    lease_all(pool)
    assert adds_up(pool)


def test_an_on_connect_that_raises_has_the_connection_closed_and_the_slot_freed(make, any_kind, driver):
    def on_connect(conn):
        if conn.number == 1:
            raise OperationalError("cannot")

    pool = make(any_kind, 0, 1, on_connect=on_connect)
    with pytest.raises(OperationalError, match="cannot"):
        pool.getconn()
    assert driver.made[0].closes == 1
    lease_all(pool)
    assert adds_up(pool)


def test_a_connect_that_fails_raises_the_drivers_own_error_and_frees_the_slot(make, any_kind, driver):
    driver.fail_on = {1, 2, 3}
    pool = make(any_kind, 0, 1)
    for number in (1, 2, 3):
        with pytest.raises(OperationalError, match=f"connect {number} refused"):
            pool.getconn()
    assert pool.stats().connect_errors == 3
    lease_all(pool)
