"""What connectors know by themselves: the generic DB-API one, and one that is given functions."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest
from servers import import_or_skip

from dbpool import AsyncConnector, AsyncTcpConnector, Connector, SimpleConnectionPool
from dbpool.connectors.base import DbapiConnector, find
from dbpool.connectors.libpq import Psycopg3Connector
from dbpool.connectors.sqlite import SqliteConnector


class Conn:
    """Has nothing but what is asked of it."""

    fileno = None


def test_the_generic_ping_asks_and_leaves_no_transaction():
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE TABLE t (a)")
    conn.execute("INSERT INTO t VALUES (1)")
    DbapiConnector().ping(conn)
    assert not conn.in_transaction
    conn.close()
    with pytest.raises(sqlite3.ProgrammingError):
        DbapiConnector().ping(conn)


def test_a_ping_of_the_users_own_takes_its_place():
    asked = []
    DbapiConnector(ping=asked.append).ping("conn")
    Connector(ping=asked.append).ping("conn")
    Connector().ping("conn")
    assert asked == ["conn", "conn"]
    assert Connector(ping=asked.append).is_writable("conn") is None


def test_nothing_is_known_of_a_strangers_errors_and_state():
    connector = Connector()
    assert not connector.is_busy(Conn())
    assert not connector.is_lost(Conn())
    assert not connector.is_read_only(Conn(), ValueError())
    assert connector.refusal(ValueError()) is None
    assert connector.fileno(Conn()) is None
    assert type(find(object())) is Connector


def test_only_a_connector_that_commits_something_has_transactions():
    class Committing(Connector):
        def commit(self, conn):
            conn.commit()

    class AsyncCommitting(AsyncConnector):
        async def commit(self, conn):
            await conn.commit()

    kinds = (Connector, AsyncConnector, DbapiConnector, SqliteConnector, Committing, AsyncCommitting)
    assert [kind().has_transactions() for kind in kinds] == [False, False, True, True, True, True]


@pytest.mark.synchronous
def test_a_block_on_what_has_no_transactions_does_not_ask_for_one(kind):
    class Deaf(Connector):
        asked = 0

        def dirty(self, conn):
            self.asked += 1
            return False

    connector = Deaf(Conn, close=lambda conn: None)
    pool = kind(0, 1, connect=connector)
    for _ in range(3):
        with pool.connection():
            pass
    assert connector.asked == 3  # by the puts
    pool.close()


def test_an_error_that_spoils_a_connection_has_it_closed(kind):
    class Fragile(Connector):
        def is_spoilt(self, conn, error):
            return isinstance(error, KeyError)

    pool = kind(0, 1, connect=Fragile(Conn, close=lambda conn: None))
    for error in (ValueError, KeyError, ValueError):
        with pytest.raises(error), pool.connection():
            raise error
    assert (pool.stats().opened, pool.stats().discards) == (2, {"interrupted": 1})
    pool.close()


@pytest.mark.synchronous
@pytest.mark.parametrize("which", ["a connector", "a function"])
def test_pools_for_threads_refuse_what_is_to_be_awaited(any_kind, which):
    async def connect():
        raise AssertionError

    with pytest.raises(TypeError, match=r"^connect is asynchronous, which takes an AsyncConnectionPool, not a \w+Pool"):
        any_kind(1, 1, connect=AsyncTcpConnector("127.0.0.1", 7) if which == "a connector" else connect)


@pytest.mark.parametrize("name", ["connect", "close", "reset", "ping"])
def test_what_is_no_function_is_refused_by_name(name):
    with pytest.raises(TypeError, match=name):
        Connector(**{name: 5})


def test_a_pool_over_a_connector_without_connect_says_what_is_missing():
    with pytest.raises(TypeError, match="does not know how to connect"):
        SimpleConnectionPool(1, 1, connect=Connector())


@pytest.mark.parametrize(("level", "done"), [("commit", 1), ("rollback", 0), ("none", None)])
def test_the_generic_reset_ends_the_transaction_as_it_is_told(level, done):
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE TABLE t (a)")
    conn.execute("INSERT INTO t VALUES (1)")
    DbapiConnector().reset(conn, level)
    assert conn.in_transaction == (done is None)
    if done is not None:
        assert conn.execute("SELECT count(*) FROM t").fetchone()[0] == done
    conn.close()


# ---- psycopg 3 ----------------------------------------------------------------------------------------------


def test_pipeline_mode_is_a_mark_that_cannot_be_restored():
    """The transaction status is idle until something was sent."""
    psycopg = import_or_skip("psycopg")
    conn = SimpleNamespace(pgconn=SimpleNamespace(transaction_status=0, pipeline_status=0))
    connector = Psycopg3Connector()
    for name in connector.attributes:
        setattr(conn, name, None)
    marks = connector.marks_of()(conn)
    changed = connector.changed_from(marks)
    assert not changed(conn)
    conn.autocommit = True
    assert changed(conn)
    connector.restore(conn, marks)
    assert not changed(conn)
    conn.pgconn.pipeline_status = 1
    assert changed(conn)
    with pytest.raises(psycopg.OperationalError, match="pipeline"):
        connector.restore(conn, marks)
