"""What holds for sqlite3 alone."""

from __future__ import annotations

import sqlite3
import sys

import pytest
from unit.checks import lease_all
from unit.threads import Caller

from dbpool import SimpleConnectionPool, ThreadedConnectionPool

from .conftest import Sqlite


@pytest.fixture
def database(tmp_path):
    """A file."""
    return Sqlite(str(tmp_path / "notes.db"))


def test_a_connection_may_be_used_by_any_thread(database):
    with database.pool(maxconn=1) as pool:
        conn = pool.getconn()
        assert Caller(lambda: conn.execute("SELECT 1").fetchall()).result() == [(1,)]
        pool.putconn(conn)


def test_what_the_user_says_of_threads_counts(database):
    pool = SimpleConnectionPool(1, 1, *database.arguments, connect=sqlite3, check_same_thread=True)
    with pool.connection() as conn, pytest.raises(sqlite3.ProgrammingError, match="thread"):
        Caller(conn.execute, "SELECT 1").result()
    pool.close()


def test_a_factory_of_the_user_is_kept(database):
    class Connection(sqlite3.Connection):
        pass

    pool = ThreadedConnectionPool(1, 1, *database.arguments, connect=sqlite3, factory=Connection)
    with pool.connection() as conn:
        assert type(conn) is Connection
    pool.close()


def test_the_function_serves_as_well_as_the_module(database):
    pool = ThreadedConnectionPool(1, 1, *database.arguments, connect=sqlite3.connect)
    with pool.connection() as conn:
        assert Caller(lambda: conn.execute("SELECT 1").fetchall()).result() == [(1,)]
    pool.closeall()
    with pytest.raises(sqlite3.Error):
        pool.getconn()


def test_a_folder_that_does_not_exist_is_the_drivers_own_error(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        ThreadedConnectionPool(1, 1, str(tmp_path / "no" / "such.db"), connect=sqlite3)
    pool = SimpleConnectionPool(0, 1, str(tmp_path / "no" / "such.db"), connect=sqlite3)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            pool.getconn()
    assert pool.stats().size == 0


def test_session_is_refused_for_there_is_none(database):
    with pytest.raises(ValueError, match=r"\breset\b.*session"):
        database.pool(reset="session")


def test_a_reset_that_returns_a_cursor_keeps_the_connection(database):
    with database.pool(maxconn=1, reset=lambda conn: conn.execute("PRAGMA foreign_keys = ON")) as pool:
        conn = pool.getconn()
        pool.putconn(conn)
        assert pool.getconn() is conn
        pool.putconn(conn)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit= came with Python 3.12")
@pytest.mark.parametrize("kind", [SimpleConnectionPool, ThreadedConnectionPool])
def test_connections_with_autocommit_false_can_be_pooled(database, kind):
    opened = []

    class Connection(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            opened.append(True)
            if len(opened) > 20:
                raise sqlite3.OperationalError("getconn opens one connection after the other")
            super().__init__(*args, **kwargs)

    pool = kind(0, 1, *database.arguments, connect=sqlite3, autocommit=False, factory=Connection)
    with pool.connection() as conn:
        conn.execute("CREATE TABLE note (body TEXT)")
    with pool.connection() as again:
        again.execute("INSERT INTO note VALUES ('kept')")
    assert again is conn
    lease_all(pool)
    pool.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="autocommit= came with Python 3.12")
def test_clean_restores_autocommit(database):
    with database.pool(maxconn=1) as pool:
        conn = pool.getconn()
        conn.autocommit = True
        pool.putconn(conn)
        again = pool.getconn()
        assert again.autocommit == sqlite3.LEGACY_TRANSACTION_CONTROL
        pool.putconn(again)


def test_a_connection_that_was_closed_while_idle_is_not_handed_out(database):
    with database.pool(maxconn=1) as pool:
        conn = pool.getconn()
        pool.putconn(conn)
        conn.close()
        other = pool.getconn()
        assert other is not conn
        pool.putconn(other)


def test_reset_commit_commits_what_a_holder_left_open(database):
    with database.pool(maxconn=1, reset="commit") as pool:
        conn = pool.getconn()
        conn.execute("CREATE TABLE kept (body TEXT)")
        conn.execute("INSERT INTO kept VALUES ('here')")
        pool.putconn(conn)
        conn = pool.getconn()
        assert conn.execute("SELECT body FROM kept").fetchall() == [("here",)]
        pool.putconn(conn)
