"""The asynchronous examples, run for real: aiosqlite on a file, psycopg 3 and asyncpg on a server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import closing

import pytest
from drivers.aio.notes import lease_all
from loops import in_task, loops, soon
from servers import import_or_skip
from test_docs import uri
from unit.threads import Caller

from .test_web import EXAMPLES, ROOT, load, table_in

run = loops("asyncio")


def started(name, *arguments, **environ):
    """Run an example as its docstring says; return what it has printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environ}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- aiosqlite -------------------------------------------------------------------------------------------------------


@pytest.fixture
def example():
    """The example as a module."""
    import_or_skip("aiosqlite")
    return load("aiosqlite_pool")


@pytest.fixture
def path(tmp_path):
    """A file for it."""
    return str(tmp_path / "notes.db")


def test_the_aiosqlite_example_writes_what_it_says(path):
    import_or_skip("aiosqlite")
    first, second = started("aiosqlite_pool.py", path).splitlines()
    assert first.startswith("100 notes by 3 connections, ")
    assert second == "101 notes"


def test_one_connection_is_open_at_once_although_minconn_is_0(example, path):
    async def use():
        with pytest.raises(example.aiosqlite.OperationalError):
            await example.open_pool("/no/such/folder/notes.db")
        pool = await example.open_pool(path)
        assert (pool.minconn, pool.stats().idle) == (0, 1)
        await pool.close()

    run(use())


def test_pings_on_get_on_give_back_and_when_idle(example, path):
    async def use():
        pool = await example.open_pool(path, ping_interval=0.05, maxconn=1)
        connector = pool._opener.connector
        async with pool:
            for options in ("get", "give back"):
                before = connector.pings
                conn = await pool.getconn()
                if options == "get":
                    assert connector.pings == before + 1
                before = connector.pings
                await pool.putconn(conn)
                assert connector.pings == before + 1
            before = connector.pings
            await soon(lambda: connector.pings > before + 1)  # nobody uses it
        quiet = await example.open_pool(path, ping_after=None, ping_on_return=False, ping_interval=None)
        async with quiet:
            before = quiet._opener.connector.pings
            await lease_all(quiet)
            assert quiet._opener.connector.pings == before

    run(use())


def test_what_is_idle_for_long_is_closed_and_a_get_waits_for_its_timeout(example, path):
    async def use():
        async with await example.open_pool(path, idle_timeout=0.3, timeout=0.05, maxconn=2) as pool:
            conns = [await pool.getconn(timeout=5) for _ in range(2)]
            with pytest.raises(example.aiosqlite.Error, match=r"no connection came free within 0\.05 s"):
                await pool.getconn()
            for conn in conns:
                await pool.putconn(conn)
            await soon(lambda: pool.stats().size == 0)
            assert pool._opener.connector.closes >= 2

    run(use())


@pytest.mark.parametrize(("level", "expected"), [("commit", (1, False)), ("rollback", (0, False)), ("none", (1, True))])
def test_a_give_back_commits_rolls_back_or_does_nothing(example, path, level, expected):
    async def use():
        async with await example.open_pool(path, reset=level, ping_on_return=False, maxconn=1) as pool:
            conn = await pool.getconn()
            await conn.execute("INSERT INTO note (body) VALUES ('?')")
            await pool.putconn(conn)
            assert await pool.getconn() is conn
            async with conn.execute("SELECT count(*) FROM note") as cursor:
                assert (await cursor.fetchone(), conn.in_transaction) == ((expected[0],), expected[1])
            await pool.putconn(conn)

    run(use())


def test_a_give_back_may_put_a_new_connection_in_the_place(example, path):
    async def use():
        async with await example.open_pool(path, maxconn=1) as pool:
            pool._opener.connector.replace_after = 3
            seen = []
            for number in range(6):
                async with pool.connection() as conn:
                    await conn.execute("INSERT INTO note (body) VALUES (?)", (str(number),))
                seen.append(conn)
            assert [seen.index(conn) for conn in seen] == [0, 0, 0, 3, 3, 3]
            assert await example.count(pool) == 6
            assert (pool.stats().size, pool.stats().discards) == (1, {"replaced": 2})

    run(use())


def test_threads_share_a_pool_of_one_loop(example, path):
    notes = example.Notes(path)
    callers = [Caller(notes.add, str(number)) for number in range(20)]
    for caller in callers:
        caller.result()
    assert notes.count() == 20
    assert 1 <= notes.pool.stats().opened <= 3
    notes.close()
    assert notes.pool.closed


# ---- psycopg 3 and asyncpg -------------------------------------------------------------------------------------------


@pytest.fixture
def dsn(server, monkeypatch):
    """A server in a form that both drivers take, with the example's table."""
    psycopg2 = import_or_skip("psycopg2")
    import_or_skip("psycopg")
    import_or_skip("asyncpg")
    with closing(psycopg2.connect(server.dsn)) as conn:
        conn.autocommit = True
        conn.cursor().execute("DROP TABLE IF EXISTS account")
        conn.cursor().execute(table_in("async_postgres"))
        yield uri("postgresql", psycopg2.extensions.parse_dsn(server.dsn))
        conn.cursor().execute("DROP TABLE account")


def test_the_postgres_example_loses_no_money(dsn):
    told = started("async_postgres.py", DBPOOL_DSN=dsn).splitlines()
    assert [line.partition(":")[0] for line in told] == ["ByPsycopg", "ByAsyncpg"]
    for line in told:
        assert "500 transfers" in line
        assert line.endswith("1000 before and 1000 after")


@pytest.mark.parametrize("name", ["ByPsycopg", "ByAsyncpg"])
def test_no_money_is_lost_by_those_who_are_cancelled_or_time_out(dsn, name):
    example = load("async_postgres")
    bank = getattr(example, name)()

    async def use():
        async with bank.pool(dsn, timeout=0.01) as pool:
            await bank.fill(pool)
            for _ in range(20):
                tasks = [await in_task(example.work(bank, pool, 3)) for _ in range(10)]
                await asyncio.sleep(0.005)
                for task in tasks[::2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert await bank.total(pool) == 100 * example.ACCOUNTS
            assert pool.stats().used == 0
            await lease_all(pool)

    run(use())
