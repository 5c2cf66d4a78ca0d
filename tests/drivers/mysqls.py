"""What the tests of MySQL's drivers have in common."""

from __future__ import annotations

import contextlib
from contextlib import closing

import pytest
from asking import tell
from unit.threads import eventually

from dbpool.connectors.mysql import MysqlclientConnector, PymysqlConnector

NAMES = {"pymysql": PymysqlConnector, "MySQLdb": MysqlclientConnector}
FOR_PYMYSQL = pytest.mark.parametrize("mysql", ["pymysql"], indirect=True)
FOR_MYSQLCLIENT = pytest.mark.parametrize("mysql", ["mysqlclient"], indirect=True)


def reopened(database, **changed):
    """Return the same database with other arguments."""
    return type(database)(**{**database.arguments[0], **changed})


def number_of(conn):
    """Return the server's number of the session; known to the driver, no round trip."""
    return conn.thread_id()


def put_and_get(pool, conn):
    """Give *conn* back, and return it as its next holder gets it."""
    pool.putconn(conn)
    again = pool.getconn()
    assert again is conn, "it was closed instead"
    return again


def reasons(pool):
    return pool.stats().discards


@contextlib.contextmanager
def lone(mysql, **options):
    """A pool of one connection. At its end it does not wait for who has it."""
    pool = mysql.pool(maxconn=1, **options)
    try:
        yield pool
    finally:
        pool.closeall()


def killed(other, number):
    """End a session, as an administrator does; return once it has ended."""
    tell(other, f"KILL {number}")
    eventually(lambda: number not in sessions(other))


def sessions(conn):
    with closing(conn.cursor()) as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist")
        return {number for (number,) in cursor.fetchall()}
