"""aiomysql on a MariaDB: what is refused, killed and frozen, what its connections do not tell, roles, sessions."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from loops import loops, soon
from pains.sessions import MARGIN, Stopwatch

from .faces import Aiomysql
from .notes import lease_all


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine in a loop of each kind."""
    return loops(request.param)


@pytest.fixture
def database(mariadb):
    """The driver, with the server."""
    return Aiomysql(**mariadb)


async def killed(database, conn_id):
    """End a session, as an administrator does."""
    other = await database.driver.connect(**database.keywords)
    await database.tell(other, f"KILL {conn_id}")
    await other.ensure_closed()


@pytest.mark.parametrize("changed", [{"password": "hunter2"}, {"db": "nowhere"}], ids=["password", "database"])
def test_a_refusal_for_good_fails_who_waits_at_once(run, mariadb, changed):
    database = Aiomysql(**{**mariadb, **changed})

    async def use():
        async with database.pool(0, 1, timeout=60) as pool:
            with (
                Stopwatch() as watch,
                pytest.raises(database.driver.OperationalError, match=r"denied|Unknown database"),
            ):
                await pool.getconn()
            assert watch.seconds < 10

    run(use())


def test_a_server_that_is_not_there_is_waited_for(run, database):
    database.keywords["unix_socket"] += "-elsewhere"

    async def use():
        async with database.pool(0, 1) as pool:
            with pytest.raises(database.error, match="exhausted") as caught:
                await pool.getconn(timeout=0.3)
            assert isinstance(caught.value.__cause__, database.driver.OperationalError)
            assert pool.stats().connect_errors >= 2

    run(use())


def test_the_loop_is_told_of_a_killed_session_and_another_takes_its_place(run, database):
    async def use():
        async with database.pool(1, 1, check_after=None, ping_after=None) as pool:
            conn = await pool.getconn()
            old = database.pid(conn)
            await pool.putconn(conn)
            del conn
            await killed(database, old)
            await soon(lambda: sum(pool.stats().discards.values()) == 1 and pool.stats().idle == 1)
            async with pool.connection() as conn:
                assert database.pid(conn) != old

    run(use())


def test_putting_what_was_killed_in_a_transaction_raises_nothing_and_frees_the_slot(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            await database.tell(conn, "START TRANSACTION")
            assert database.in_transaction(conn)
            await killed(database, database.pid(conn))
            await pool.putconn(conn)
            del conn
            await lease_all(pool)

    run(use())


def test_a_frozen_server_never_costs_more_than_the_callers_timeout(run, database, frozen):
    async def use():
        async with database.pool(0, 1, ping_after=0, check_timeout=0.3) as pool:
            await lease_all(pool)
            with frozen():
                with Stopwatch() as watch, pytest.raises(database.error, match="exhausted"):
                    await pool.getconn(timeout=0.8)
                assert watch.seconds < 0.8 + MARGIN
            await lease_all(pool)

    run(use())


def test_a_frozen_server_costs_check_timeout_when_a_connection_comes_back(run, database, frozen):
    async def use():
        async with database.pool(0, 1, check_timeout=0.3) as pool:
            conn = await pool.getconn()
            await database.tell(conn, "START TRANSACTION")
            with frozen():
                with Stopwatch() as watch:
                    await pool.putconn(conn)
                assert watch.seconds < 0.3 + MARGIN
            del conn
            await lease_all(pool)

    run(use())


# ---- what the driver does not remember of the server's answers -------------------------------------------------------


@contextlib.asynccontextmanager
async def another(database):
    """Another's connection, in autocommit mode, and a table with one row."""
    conn = await database.driver.connect(**database.keywords, autocommit=True)
    await database.tell(
        conn, "CREATE OR REPLACE TABLE item (id int PRIMARY KEY, body text)", "INSERT INTO item VALUES (1, 'tea')"
    )
    yield conn
    await conn.ensure_closed()


async def put_and_get(pool, conn):
    """Give *conn* back, and return it as its next holder gets it."""
    await pool.putconn(conn)
    again = await pool.getconn()
    assert again is conn, "it was closed instead"
    return again


@pytest.mark.parametrize("how", ["putconn", "block"])
def test_who_has_only_read_leaves_no_snapshot(run, database, how):
    async def use():
        async with another(database) as other, database.pool(0, 1) as pool:
            if how == "block":
                async with pool.connection() as conn:
                    assert await database.ask(conn, "SELECT count(*) FROM item") == 1
            else:
                conn = await pool.getconn()
                assert await database.ask(conn, "SELECT count(*) FROM item") == 1
                await pool.putconn(conn)
            await database.tell(other, "INSERT INTO item VALUES (2, 'milk')")
            assert await pool.getconn() is conn
            assert await database.ask(conn, "SELECT count(*) FROM item") == 2
            await pool.putconn(conn)

    run(use())


def test_a_statement_that_failed_leaves_no_lock(run, database):
    async def use():
        async with another(database) as other, database.pool(0, 1) as pool:
            conn = await pool.getconn()
            with pytest.raises(database.driver.IntegrityError):
                await database.tell(conn, "INSERT INTO item VALUES (1, 'again')")
            await pool.putconn(conn)
            await database.tell(other, "SET innodb_lock_wait_timeout = 0", "DELETE FROM item")

    run(use())


def test_a_connection_with_rows_that_nobody_has_read_is_closed(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            cursor = await conn.cursor(database.driver.SSCursor)
            await cursor.execute("SELECT seq FROM seq_1_to_100000")
            await pool.putconn(conn)
            await soon(lambda: pool.stats().discards == {"reset failed": 1})
            del conn, cursor
            await lease_all(pool)

    run(use())


def test_clean_sets_back_what_the_driver_knows(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            charset, cursorclass = conn.charset, conn.cursorclass
            await conn.autocommit(True)
            await conn.set_charset("ascii")
            conn.cursorclass = database.driver.DictCursor
            conn = await put_and_get(pool, conn)
            assert (conn.charset, conn.cursorclass, conn.get_autocommit()) == (charset, cursorclass, False)
            assert await database.ask(conn, "SELECT @@autocommit") == 0
            assert await database.ask(conn, "SELECT @@character_set_client") == charset
            await pool.putconn(conn)

    run(use())


def test_session_leaves_no_trace_of_the_holder_before(run, database):
    database.keywords |= {"init_command": "SET @ours = 5", "sql_mode": "'ANSI'"}

    async def use():
        async with database.pool(0, 1, reset="session") as pool:
            conn = await pool.getconn()
            await database.tell(
                conn, "SET @mine = 1, sql_mode = ''", "USE information_schema", "DO GET_LOCK('mine', 0)"
            )
            conn = await put_and_get(pool, conn)
            assert await database.ask(conn, "SELECT @mine IS NULL AND IS_USED_LOCK('mine') IS NULL") == 1
            assert await database.ask(conn, "SELECT DATABASE() = 'mysql' AND @ours = 5") == 1
            assert "ANSI" in await database.ask(conn, "SELECT @@sql_mode")
            assert await database.ask(conn, "SELECT @@autocommit") == 0
            await pool.putconn(conn)

    run(use())


def test_a_server_that_takes_no_writes_has_its_connection_retired_and_its_role_told(run, database):
    name = {"user": "guest", "password": "guest"}
    guest = Aiomysql(**{**database.keywords, **name})

    async def write(pool):
        async with pool.connection() as conn:
            await database.tell(conn, "INSERT INTO item VALUES (3, '')")

    async def use():
        async with another(database) as other, guest.pool(0, 1) as pool, guest.pool(0, 1, role="read-write") as writers:
            await database.tell(
                other,
                "CREATE OR REPLACE USER guest@localhost IDENTIFIED BY 'guest'",
                "GRANT ALL ON mysql.* TO guest@localhost",
            )
            await lease_all(writers)
            await lease_all(pool)
            await database.tell(other, "SET GLOBAL read_only = 1")
            try:
                with pytest.raises(database.driver.OperationalError, match="read-only"):
                    await write(pool)
                await soon(lambda: pool.stats().discards == {"read-only": 1})
                await writers.drain()
                with pytest.raises(database.error):
                    await writers.getconn(timeout=0.3)
            finally:
                await database.tell(other, "SET GLOBAL read_only = 0")
            await write(pool)
            await lease_all(writers)

    run(use())


def test_what_was_killed_is_lost_and_what_its_user_has_closed_is_not(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            await database.tell(conn, "START TRANSACTION")
            await killed(database, database.pid(conn))
            with pytest.raises(database.driver.OperationalError):
                await pool._opener.connector.rollback(conn)
            assert pool._opener.is_lost(conn)
            await pool.putconn(conn)
            conn = await pool.getconn()
            conn.close()
            assert not pool._opener.is_lost(conn)
            await pool.putconn(conn)
            del conn
            await lease_all(pool)

    run(use())


def test_too_many_connections_are_waited_for(run, database):
    guest = Aiomysql(**{**database.keywords, "user": "one", "password": "one"})

    async def use():
        async with another(database) as other, guest.pool(0, 1) as pool:
            limited = "CREATE OR REPLACE USER one@localhost IDENTIFIED BY 'one' WITH MAX_USER_CONNECTIONS 1"
            await database.tell(other, limited, "GRANT ALL ON mysql.* TO one@localhost")
            taken = await guest.driver.connect(**guest.keywords)
            waiter = asyncio.ensure_future(pool.getconn(timeout=20))
            await soon(lambda: pool.stats().connect_errors >= 2)
            assert not waiter.done()
            await taken.ensure_closed()
            await pool.putconn(await waiter)

    run(use())
