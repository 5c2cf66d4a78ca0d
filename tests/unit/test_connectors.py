"""What connectors know by themselves: the generic DB-API one, and one that is given functions."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest
from servers import import_or_skip

from dbpool import Connector, SimpleConnectionPool
from dbpool.connectors.base import DbapiConnector, find
from dbpool.connectors.libpq import Psycopg3Connector


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
