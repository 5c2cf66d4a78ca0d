"""What holds for psycopg2 alone: the server's session, its errors, and backends that are killed."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module

import pytest
from asking import ask, tell
from unit.checks import adds_up
from unit.threads import Caller, eventually

from dbpool import ThreadedConnectionPool


def run_block(pool, *steps):
    """Enter a block and call each of *steps* with the connection."""
    with pool.connection() as conn:
        for step in steps:
            step(conn)


def put_and_get(pool, conn):
    """Give *conn* back, and return it as its next holder gets it."""
    pool.putconn(conn)
    again = pool.getconn()
    assert again is conn, "it was closed instead"
    return again


# ---- the session -------------------------------------------------------------------------------------------

TRACES = {
    "a setting": ("SET work_mem = '77MB'", "SELECT current_setting('work_mem') = '77MB'"),
    "a path": ("SET search_path = pg_catalog", "SELECT current_setting('search_path') = 'pg_catalog'"),
    "a temporary table": ("CREATE TEMP TABLE mine (a int)", "SELECT to_regclass('pg_temp.mine') IS NOT NULL"),
    "a lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a channel": ("LISTEN mine", "SELECT count(*) > 0 FROM pg_listening_channels()"),
    "a statement": ("PREPARE mine AS SELECT 1", "SELECT count(*) > 0 FROM pg_prepared_statements"),
    "a role": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT current_user = 'pg_monitor'"),
    "a cursor": (
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) > 0 FROM pg_cursors WHERE is_holdable AND name = 'mine'",
    ),
    "another role": ("SET ROLE pg_monitor", "SELECT current_user = 'pg_monitor'"),
    "a time-out": ("SET statement_timeout = '7min'", "SELECT current_setting('statement_timeout') = '7min'"),
    "what transactions are like": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT current_setting('default_transaction_isolation') = 'serializable'",
    ),
    "a sequence's last value": (
        "CREATE TEMP SEQUENCE mine; SELECT nextval('mine')",
        "SELECT to_regclass('pg_temp.mine') IS NOT NULL AND lastval() = 1",
    ),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("left_open", [False, True], ids=["committed", "in a transaction"])
def test_session_leaves_no_trace_of_the_holder_before(postgres, trace, left_open):
    leave, is_there = TRACES[trace]
    with postgres.pool(maxconn=1, reset="session") as pool:
        conn = pool.getconn()
        tell(conn, leave)
        conn.commit()
        assert ask(conn, is_there), "it left no trace to begin with"
        conn.commit()
        if left_open:
            tell(conn, "SELECT 1")
        conn = put_and_get(pool, conn)
        assert conn.get_transaction_status() == 0
        assert not ask(conn, is_there)
        pool.putconn(conn)


@pytest.mark.parametrize("level", ["rollback", "commit", "clean", "none"])
def test_the_other_levels_leave_the_session_alone(postgres, level):
    with postgres.pool(maxconn=1, reset=level) as pool:
        conn = pool.getconn()
        tell(conn, "SET work_mem = '77MB'")
        conn.commit()
        conn = put_and_get(pool, conn)
        assert ask(conn, "SELECT current_setting('work_mem')") == "77MB"
        conn.commit()
        pool.putconn(conn)


def test_session_restores_what_on_connect_said_to_the_server(postgres):
    with postgres.pool(maxconn=1, reset="session", on_connect=lambda conn: tell(conn, "SET work_mem = '55MB'")) as pool:
        conn = pool.getconn()
        tell(conn, "SET work_mem = '77MB'")
        conn.commit()
        conn = put_and_get(pool, conn)
        assert ask(conn, "SELECT current_setting('work_mem')") == "55MB"
        pool.putconn(conn)


def test_session_leaves_text_readable_after_another_encoding(postgres):
    with postgres.pool(maxconn=1, reset="session") as pool:
        conn = pool.getconn()
        conn.set_client_encoding("LATIN1")
        conn = put_and_get(pool, conn)
        assert ask(conn, "SELECT 'é'") == "é"
        assert ask(conn, "SELECT chr(233)") == "é"
        pool.putconn(conn)


def test_session_leaves_dates_readable_after_another_style(postgres):
    with postgres.pool(maxconn=1, reset="session") as pool:
        conn = pool.getconn()
        tell(conn, "SET datestyle = 'German'")
        conn.commit()
        conn = put_and_get(pool, conn)
        assert str(ask(conn, "SELECT DATE '2024-02-03'")) == "2024-02-03"
        pool.putconn(conn)


ATTRIBUTES = [
    ("autocommit", True), ("isolation_level", 3), ("readonly", True), ("deferrable", True), ("cursor_factory", "dict"),
]  # fmt: skip


@pytest.mark.fault(30)
@pytest.mark.parametrize(("name", "value"), ATTRIBUTES, ids=[name for name, _ in ATTRIBUTES])
@pytest.mark.parametrize("level", ["clean", "session"])
def test_clean_restores_every_attribute(postgres, level, name, value):
    extras = import_module(f"{postgres.driver}.extras")
    with postgres.pool(maxconn=1, reset=level) as pool:
        conn = pool.getconn()
        before = getattr(conn, name)
        setattr(conn, name, extras.DictCursor if value == "dict" else value)
        assert getattr(conn, name) != before
        conn = put_and_get(pool, conn)
        assert getattr(conn, name) == before
        assert ask(conn, "SELECT 1") == 1
        pool.putconn(conn)


def test_clean_restores_an_attribute_changed_within_a_transaction(postgres):
    """The transaction is ended first: psycopg2 refuses the change inside one."""
    with postgres.pool(maxconn=1) as pool:
        conn = pool.getconn()
        conn.readonly = True
        tell(conn, "SELECT 1")
        conn = put_and_get(pool, conn)
        assert conn.readonly is None
        pool.putconn(conn)


# ---- lost backends -----------------------------------------------------------------------------------------


def kill(postgres, conn):
    """End the backend of *conn*, and return once it is gone."""
    pid = conn.get_backend_pid()
    with closing(postgres.connect()) as other:
        tell(other, f"SELECT pg_terminate_backend({pid})")
        other.commit()
        eventually(lambda: _is_gone(other, pid))


def _is_gone(conn, pid):
    found = ask(conn, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")
    conn.commit()
    return found == 0


@pytest.mark.parametrize("level", ["rollback", "clean", "commit", "session"])
def test_a_backend_killed_in_a_transaction_frees_its_slot_at_put(postgres, kind, level):
    with postgres.pool(kind, 0, 1, reset=level) as pool:
        conn = pool.getconn()
        tell(conn, "SELECT 1")
        kill(postgres, conn)
        pool.putconn(conn)
        assert conn.closed
        assert pool.stats().size == 0
        again = pool.getconn()
        assert ask(again, "SELECT 1") == 1
        pool.putconn(again)
        assert adds_up(pool)


def test_a_backend_killed_in_use_is_the_drivers_error_and_frees_its_slot(postgres, kind):
    with postgres.pool(kind, 0, 1) as pool:
        steps = (lambda conn: kill(postgres, conn), lambda conn: tell(conn, "SELECT 1"))
        with pytest.raises(postgres.module.OperationalError):
            run_block(pool, *steps)
        assert pool.stats().size == 0
        with pool.connection() as again:
            assert ask(again, "SELECT 1") == 1


def test_a_commit_to_a_killed_backend_is_the_drivers_error_and_frees_its_slot(postgres, kind):
    with postgres.pool(kind, 0, 1) as pool:
        steps = (lambda conn: tell(conn, "SELECT 1"), lambda conn: kill(postgres, conn))
        with pytest.raises(postgres.module.Error):
            run_block(pool, *steps)
        assert pool.stats().size == 0


def test_a_killed_backend_does_not_hide_the_users_error(postgres, kind):
    with postgres.pool(kind, 0, 1) as pool:
        steps = (lambda conn: tell(conn, "SELECT 1"), lambda conn: kill(postgres, conn), lambda conn: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_block(pool, *steps)
        assert pool.stats().size == 0


def test_the_slot_of_a_killed_backend_goes_to_who_waits(postgres):
    with postgres.pool(ThreadedConnectionPool, 0, 1) as pool:
        conn = pool.getconn()
        tell(conn, "SELECT 1")
        waiter = Caller(pool.getconn)
        eventually(lambda: pool.stats().waiting)
        kill(postgres, conn)
        pool.putconn(conn)
        again = waiter.result()
        assert ask(again, "SELECT 1") == 1
        pool.putconn(again)
