"""Each driver: what is opened and lent comes back clean, whatever its holder has done."""

from __future__ import annotations

import asyncio

import pytest

from .notes import count, lease_all, write, write_and_fail

# ---- open, get, put, close -------------------------------------------------------------------------------------------


def test_a_pool_opens_lends_and_closes(run, database):
    async def use():
        async with database.pool(1, 2) as pool:
            assert pool.stats().idle == 1
            conn = await pool.getconn()
            assert await database.ask(conn, "SELECT 6 * 7") == 42
            await pool.putconn(conn)
            assert await pool.getconn() is conn
            await pool.putconn(conn)
            await lease_all(pool)
            assert (pool.stats().opened, pool.stats().idle) == (2, 2)
        assert pool.closed
        assert pool.stats().size == 0
        with pytest.raises(database.error, match="closed"):
            await pool.getconn()

    run(use())


def test_many_tasks_share_few_connections(run, database):
    async def work(pool, number):
        async with pool.connection() as conn:
            assert await database.ask(conn, f"SELECT {number}") == number

    async def use():
        async with database.pool(0, 3) as pool:
            await asyncio.gather(*(work(pool, number) for number in range(60)))
            assert pool.stats().opened <= 3
            assert pool.stats().leases == 60

    run(use())


def test_an_exhausted_pool_raises_the_drivers_error(run, database):
    async def use():
        async with database.pool(0, 1) as pool, pool.connection():
            with pytest.raises(database.error, match="connection pool exhausted"):
                await pool.getconn(timeout=0.05)

    run(use())


# ---- put back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a"])
def test_a_connection_put_in_its_transaction_comes_back_idle_and_its_row_is_not_there(run, database, key):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn(key)
            await write(database, conn)
            await pool.putconn(conn, key)
            assert await pool.getconn() is conn
            assert not database.in_transaction(conn)
            assert await count(database, conn) == 0
            await pool.putconn(conn)

    run(use())


def test_a_connection_put_after_an_error_of_the_server_comes_back_usable(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            with pytest.raises(Exception, match="no_such_table"):
                await database.tell(conn, "SELECT * FROM no_such_table")
            await pool.putconn(conn)
            async with pool.connection() as conn:
                assert await count(database, conn) == 0
            assert pool.stats().opened == 1

    run(use())


@pytest.mark.parametrize(("level", "expected"), [("rollback", 0), ("clean", 0), ("commit", 1)])
def test_each_level_ends_the_transaction_in_its_way(run, database, level, expected):
    async def use():
        async with database.pool(0, 1, reset=level) as pool:
            conn = await pool.getconn()
            await write(database, conn)
            await pool.putconn(conn)
            async with pool.connection() as conn:
                assert await count(database, conn) == expected
            assert pool.stats().opened == 1

    run(use())


def test_a_callable_runs_on_the_real_connection(run, database):
    """An asynchronous one, unless the driver's calls are made in threads."""

    def reset_in_thread(conn):
        conn.cursor().execute("INSERT INTO note VALUES ('reset')")
        conn.commit()

    async def reset(conn):
        await write(database, conn, "reset")
        await database.commit(conn)

    async def use():
        async with database.pool(0, 1, reset=reset_in_thread if database.threaded else reset) as pool:
            conn = await pool.getconn()
            await write(database, conn)
            await pool.putconn(conn)
            async with pool.connection() as conn:
                assert await database.ask(conn, "SELECT body FROM note") == "reset"

    run(use())


def test_clean_restores_the_drivers_attributes(run, database):
    if database.attribute is None:
        pytest.skip("it has none")
    name, changed = database.attribute

    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            before = getattr(conn, name)
            setattr(conn, name, changed)
            await pool.putconn(conn)
            assert await pool.getconn() is conn
            assert getattr(conn, name) == before
            await pool.putconn(conn)

    run(use())


# ---- blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["connection", "connect"])
def test_a_block_commits_or_rolls_back(run, database, way):
    async def use():
        async with database.pool(0, 1) as pool:

            async def block():
                return pool.connection() if way == "connection" else await pool.connect()

            async with await block() as conn:
                await write(database, conn)
            with pytest.raises(ZeroDivisionError):
                await write_and_fail(database, await block())
            async with await block() as conn:
                assert await count(database, conn) == 1
            assert pool.stats().opened == 1

    run(use())


def test_a_cancelled_block_rolls_back(run, database):
    async def work(pool, written):
        async with pool.connection() as conn:
            await write(database, conn)
            written.set()
            await asyncio.sleep(20)

    async def use():
        async with database.pool(0, 1) as pool:
            written = asyncio.Event()
            task = asyncio.ensure_future(work(pool, written))
            await written.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            async with pool.connection() as conn:
                assert await count(database, conn) == 0

    run(use())


def test_a_proxy_gives_its_connection_back(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.connect()
            raw = conn.raw
            await write(database, conn)
            await conn.close()
            await conn.close()
            with pytest.raises(database.error, match="closed"):
                conn.cursor()
            assert await pool.getconn() is raw
            assert not database.in_transaction(raw)
            await pool.putconn(raw)

    run(use())


def test_what_on_connect_leaves_open_is_committed(run, database):
    async def fill(conn):
        await write(database, conn, "kept")

    async def use():
        async with database.pool(0, 2, on_connect=fill) as pool:
            conn = await pool.getconn()
            assert not database.in_transaction(conn)
            assert await count(database, conn) == 1
            await pool.putconn(conn, close=True)

    if database.threaded:
        pytest.skip("its on_connect is a plain function: see the tests of the other pools")
    run(use())
