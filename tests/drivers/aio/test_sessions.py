"""PostgreSQL's drivers: what each reset level leaves of the holder before, and what looking after it costs."""

from __future__ import annotations

import asyncio

import pytest
from loops import loops

from .faces import SERVERS
from .notes import drops

run = loops("asyncio")

# The twelve items: how each is left behind, and whether it is still there.
LEFT = {
    "a temporary table": ("CREATE TEMP TABLE mine (a int)", "SELECT to_regclass('pg_temp.mine') IS NOT NULL"),
    "a sequence's value": ("SELECT nextval('number')", "SELECT public.has_lastval()"),
    "a lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a channel": ("LISTEN mine", "SELECT count(*) > 0 FROM pg_listening_channels()"),
    "a statement": ("PREPARE mine AS SELECT 1", "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name = 'mine'"),
    "a cursor": (
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) > 0 FROM pg_cursors WHERE name = 'mine'",
    ),
    "a setting": ("SET work_mem = '77MB'", "SELECT current_setting('work_mem') = '77MB'"),
    "a path": ("SET search_path = pg_catalog", "SELECT current_setting('search_path') = 'pg_catalog'"),
    "a time zone": ("SET TIME ZONE 'Asia/Shanghai'", "SELECT current_setting('TimeZone') = 'Asia/Shanghai'"),
    "what transactions are": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT current_setting('default_transaction_read_only') = 'on'",
    ),
    "an identity": ("SET SESSION AUTHORIZATION pg_monitor", "SELECT session_user = 'pg_monitor'"),
    "a role": ("SET ROLE pg_read_all_stats", "SELECT current_user = 'pg_read_all_stats'"),
}
# lastval() raises in a session that has taken no value yet.
HAS_LASTVAL = """
CREATE OR REPLACE FUNCTION has_lastval() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN PERFORM lastval(); RETURN true; EXCEPTION WHEN OTHERS THEN RETURN false; END $$
"""


async def leave_all(database, pool):
    """Have a holder leave all twelve behind; return the connection as the next holder gets it."""
    conn = await pool.getconn()
    await database.tell(conn, HAS_LASTVAL, "CREATE SEQUENCE IF NOT EXISTS number")
    await database.commit(conn)
    for leave, _ in LEFT.values():
        await database.tell(conn, leave)
        await database.commit(conn)
    assert await left(database, conn) == set(LEFT)
    if database.in_transaction(conn):
        await database.commit(conn)
    await pool.putconn(conn)
    return await pool.getconn()


async def left(database, conn):
    """Return what is left."""
    return {name for name, (_, is_there) in LEFT.items() if await database.ask(conn, is_there)}


def test_session_leaves_nothing_of_the_holder_before(go, postgres):
    async def use():
        async with postgres.pool(0, 1, reset="session") as pool:
            conn = await leave_all(postgres, pool)
            # asyncpg would lose its own prepared statements with the others.
            assert await left(postgres, conn) == ({"a statement"} if postgres.module == "asyncpg" else set())
            await pool.putconn(conn)
            assert pool.stats().opened == 1

    go(use())


@pytest.mark.parametrize("level", ["clean", "rollback"])
def test_the_levels_below_leave_the_session_as_it_is(go, postgres, level):
    async def use():
        async with postgres.pool(0, 1, reset=level) as pool:
            conn = await leave_all(postgres, pool)
            assert await left(postgres, conn) == set(LEFT)
            await pool.putconn(conn)

    go(use())


def test_none_leaves_the_transaction_too(go, postgres):
    async def use():
        async with postgres.pool(0, 1, reset="none") as pool:
            conn = await pool.getconn()
            await postgres.tell(conn, "SELECT 1")
            await pool.putconn(conn)
            assert await pool.getconn() is conn
            assert postgres.in_transaction(conn)
            await pool.putconn(conn)

    go(use())


@pytest.mark.parametrize("level", ["clean", "session"])
def test_statements_that_the_driver_has_prepared_can_be_used_after_a_return(go, postgres, level):
    async def use():
        async with postgres.pool(0, 1, reset=level) as pool:
            for _ in range(3):
                async with pool.connection() as conn:
                    for _ in range(8):  # psycopg prepares what is executed more than five times
                        assert await postgres.ask(conn, "SELECT 6 * 7") == 42
            assert pool.stats().opened == 1

    go(use())


def test_asyncpg_prepares_a_statement_once_for_all_holders(tcp):
    database = SERVERS["asyncpg"](tcp.dsn)

    async def use():
        async with database.pool(0, 1) as pool:
            for _ in range(3):
                async with pool.connection() as conn:
                    await conn.fetchval("SELECT $1::int", 1)
            async with pool.connection() as conn:
                prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'"
                assert await conn.fetchval(prepared) == 1

    run(use())


@pytest.mark.parametrize("ended", ["put", "block"])
def test_a_transaction_of_asyncpgs_that_nobody_ended_is_not_the_next_holders(tcp, ended):
    database = SERVERS["asyncpg"](tcp.dsn)

    async def use():
        async with database.pool(0, 1) as pool:
            if ended == "put":
                conn = await pool.getconn()
                await conn.transaction().start()
                await pool.putconn(conn)
            else:
                async with pool.connection() as conn:
                    await conn.transaction().start()
            async with pool.connection() as conn, conn.transaction():
                assert await conn.fetchval("SELECT 1") == 1
            assert pool.stats().opened == 1

    run(use())


PSYCOPGS = {"autocommit": True, "isolation_level": 3, "read_only": True, "deferrable": True}


def test_clean_restores_psycopgs_attributes(tcp):
    database = SERVERS["psycopg"](tcp.dsn)

    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            before = {name: getattr(conn, name) for name in (*PSYCOPGS, "row_factory", "prepare_threshold")}
            for name, value in PSYCOPGS.items():
                await getattr(conn, f"set_{name}")(value)
            conn.row_factory, conn.prepare_threshold = database.attribute[1], None
            await pool.putconn(conn)
            assert await pool.getconn() is conn
            assert {name: getattr(conn, name) for name in before} == before
            await pool.putconn(conn)

    run(use())


@pytest.mark.parametrize("unread", ["COPY (SELECT 1) TO STDOUT", "SELECT 1; SELECT 2"])
def test_an_unread_answer_is_not_the_next_holders(tcp, unread):
    database = SERVERS["psycopg"](tcp.dsn)

    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            old = database.pid(conn)
            conn.pgconn.send_query(unread.encode())
            await pool.putconn(conn)
            async with pool.connection() as conn:
                assert database.pid(conn) != old
                assert await database.ask(conn, "SELECT 'mine'") == "mine"

    run(use())


@drops
def test_a_connection_that_another_task_still_uses_is_not_handed_out_in_mid_statement(go, postgres):
    async def use():
        async with postgres.pool(0, 1) as pool:
            conn = await pool.getconn()
            task = asyncio.ensure_future(postgres.ask(conn, "SELECT pg_sleep(0.5)"))
            await asyncio.sleep(0.1)
            await pool.putconn(conn)
            async with pool.connection() as conn:
                if postgres.module == "asyncpg":  # it cannot be asked, but refuses the second of two users
                    with pytest.raises(postgres.driver.InterfaceError, match="another operation is in progress"):
                        await postgres.ask(conn, "SELECT 'mine'")
                else:
                    assert await postgres.ask(conn, "SELECT 'mine'") == "mine"
            await asyncio.gather(task, return_exceptions=True)

    go(use())


def test_who_uses_a_connection_is_not_left_waiting_when_the_pool_is_closed(go, postgres):
    async def use():
        pool = postgres.pool(0, 1)
        conn = await pool.getconn()
        task = asyncio.ensure_future(postgres.ask(conn, "SELECT pg_sleep(20)"))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(pool.close(timeout=0), 5)
        (ended,) = await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)
        assert isinstance(ended, Exception)

    go(use())
