"""Each connection's number at its server, which is asked for once, when it is opened, without a round trip."""

from __future__ import annotations

import pytest
from asking import ask
from fakes import FakeConnector

from dbpool import ThreadedConnectionPool

QUERIES = {"psycopg2": "pg_backend_pid", "ksycopg2": "pg_backend_pid", "psycopg": "pg_backend_pid"}


def test_it_is_what_the_server_says(database):
    with database.pool(maxconn=2) as pool, pool.connection() as one, pool.connection() as two:
        told = [pool._entries[id(conn)].backend_pid for conn in (one, two)]
        if database.module.__name__ == "sqlite3":
            assert told == [None, None]
        else:
            query = f"SELECT {QUERIES.get(database.module.__name__, 'connection_id')}()"
            assert told == [ask(conn, query) for conn in (one, two)]


@pytest.mark.parametrize("said", ["text", 0, -1, None, RuntimeError("what a driver raises")])
def test_a_driver_that_does_not_tell_is_no_fault(said):
    class Odd(FakeConnector):
        def backend_pid(self, conn):
            if isinstance(said, Exception):
                raise said
            return said

    with ThreadedConnectionPool(1, 1, connect=Odd()) as pool:
        assert [entry.backend_pid for entry in pool._entries.values()] == [None]
