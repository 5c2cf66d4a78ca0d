"""PostgreSQL's drivers: connects that are refused, hang, are cancelled, or need another password; on_connect, role."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import closing

import pytest
from loops import in_task, soon
from pains.sessions import MARGIN, Stopwatch, backends, is_gone, order

from .faces import SERVERS, words_of
from .notes import drops, lease_all


@pytest.fixture
def face(speaker, tcp):
    """Makes the driver's face for a DSN; by default the server's over TCP, where a password is asked for."""
    if tcp._postmaster is None:
        tcp.start()
    return lambda dsn=None: SERVERS[speaker[1]](dsn or tcp.tcp_dsn)


def dsn_of(cluster, **changed):
    """Return the cluster's TCP DSN with some of its words changed."""
    words = dict(word.split("=", 1) for word in cluster.tcp_dsn.split())
    return " ".join(f"{name}={value}" for name, value in {**words, **changed}.items())


# ---- refused ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "wrong password": ({"password": "hunter2"}, "password authentication failed"),
    "unknown database": ({"dbname": "nowhere"}, "does not exist"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_for_good_fails_all_who_wait_at_once_with_the_drivers_own_error(go, face, tcp, case):
    changed, text = REFUSED[case]
    database = face(dsn_of(tcp, **changed))

    async def use():
        async with database.pool(0, 1, timeout=60) as pool:
            with Stopwatch() as watch:
                errors = await asyncio.gather(*(pool.getconn() for _ in range(3)), return_exceptions=True)
            assert watch.seconds < 10
            for error in errors:
                assert type(error).__module__.startswith(database.module)
                assert text in str(error)
                assert tcp.installation.password not in str(error) + repr(error)
                assert "hunter2" not in str(error) + repr(error)
            assert pool.stats().size == 0

    go(use())


def test_a_block_that_cannot_open_raises_the_drivers_own_error_and_leaves_nothing_open(go, face, tcp):
    order(tcp, "DROP ROLE IF EXISTS few", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    database = face(dsn_of(tcp, user="few", password="few"))

    async def use():
        with pytest.raises(Exception, match="too many connections") as caught:
            async with database.pool(5, 5) as pool:
                await pool.getconn()
        assert type(caught.value).__module__.startswith(database.module)
        await soon(lambda: not backends(tcp, "awaited"))

    go(use())


def test_open_that_fails_keeps_what_was_opened(go, face, tcp):
    order(tcp, "DROP ROLE IF EXISTS few", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    database = face(dsn_of(tcp, user="few", password="few"))

    async def use():
        pool = database.pool(5, 5)
        with pytest.raises(Exception, match="too many connections"):
            await pool.open()
        await soon(lambda: not pool.stats().connecting)
        assert 1 <= pool.stats().idle <= 2
        await pool.close()
        assert pool.stats().size == 0

    go(use())


def test_too_many_clients_are_served_by_the_connections_there_are(go, face, tcp):
    order(tcp, "DROP ROLE IF EXISTS few", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    database = face(dsn_of(tcp, user="few", password="few"))

    async def work(pool):
        async with pool.connection() as conn:
            return await database.ask(conn, "SELECT 1")

    async def use():
        async with database.pool(0, 6, timeout=20) as pool:
            conns = [await pool.getconn() for _ in range(2)]
            tasks = [await in_task(work(pool)) for _ in range(4)]
            await soon(lambda: pool.stats().connect_errors)
            for conn in conns:
                await pool.putconn(conn)
            assert await asyncio.gather(*tasks) == [1] * 4

    go(use())


# ---- hanging, cancelled ----------------------------------------------------------------------------------------------


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening


def dsn_to(silent):
    return f"host=127.0.0.1 port={silent.getsockname()[1]} user=postgres dbname=postgres password=secret"


def test_a_silent_server_costs_connect_timeout(go, face, silent):
    database = face(dsn_to(silent))

    async def use():
        async with database.pool(0, 1, timeout=20, connect_timeout=0.3) as pool:
            with Stopwatch() as watch, pytest.raises(database.error, match="connect_timeout"):
                await pool.getconn()
            assert watch.seconds < 0.3 + MARGIN
            assert pool.stats().size == 0

    go(use())


def test_a_silent_server_never_costs_more_than_the_callers_timeout(go, face, silent):
    database = face(dsn_to(silent))

    async def use():
        async with database.pool(0, 1, connect_timeout=1) as pool:
            with Stopwatch() as watch, pytest.raises(database.error, match="exhausted"):
                await pool.getconn(timeout=0.3)
            assert watch.seconds < 0.3 + MARGIN
            with Stopwatch() as watch, pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.getconn(timeout=None), 0.3)
            assert watch.seconds < 0.3 + MARGIN

    go(use())


def test_a_connect_whose_caller_was_cancelled_goes_to_the_next(go, face, tcp):
    database = face()

    async def use():
        async with database.pool(0, 1, timeout=20) as pool:
            tcp.pause()
            try:
                first = await in_task(pool.getconn())
                await soon(lambda: pool.stats().connecting == 1)
                next_one = await in_task(pool.getconn())
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
            finally:
                tcp.resume()
            conn = await next_one
            assert await database.ask(conn, "SELECT 1") == 1
            await pool.putconn(conn)
            assert pool.stats().opened == 1

    go(use())


def test_a_pool_that_is_closed_while_it_connects_leaves_no_backend(go, face, tcp):
    database = face()

    async def use():
        pool = database.pool(0, 3, timeout=20)
        tcp.pause()
        try:
            tasks = [await in_task(pool.getconn()) for _ in range(3)]
            await soon(lambda: pool.stats().connecting == 3)
            with Stopwatch() as watch:
                await pool.close(timeout=0)
            assert watch.seconds < MARGIN
            for error in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(error, database.error)
                assert "closed" in str(error)
        finally:
            tcp.resume()
        await soon(lambda: not backends(tcp, "awaited"))

    go(use())


@drops
def test_the_backend_of_a_dropped_connection_is_gone(go, face):
    database = face()

    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            pid = database.pid(conn)
            del conn
            gc.collect()
            with pytest.warns(ResourceWarning):
                await lease_all(pool)
            await soon(lambda: is_gone(pid))

    go(use())


# ---- arguments, on_connect, role -------------------------------------------------------------------------------------


class Clerk:
    """A role whose password changes."""

    def __init__(self, server):
        self._server, self._number, self.asked = server, 0, 0
        order(server, "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk LOGIN")
        self.change()

    def change(self):
        self._number += 1
        order(self._server, f"ALTER ROLE clerk PASSWORD 'secret{self._number}'")

    def words(self, driver):
        self.asked += 1
        dsn = dsn_of(self._server, user="clerk", password=f"secret{self._number}")
        return words_of(dsn) if driver == "asyncpg" else dsn


@pytest.mark.parametrize("form", ["plain", "awaited"])
def test_the_arguments_are_asked_for_at_each_connect(go, face, tcp, form):
    database, clerk = face(), Clerk(tcp)

    async def awaited():
        await asyncio.sleep(0)
        return clerk.words(database.module)

    database.keywords = {}
    database.arguments = (awaited if form == "awaited" else lambda: clerk.words(database.module),)
    if form == "awaited" and database.threaded:
        pytest.skip("it is called in a thread")

    async def use():
        async with database.pool(0, 3) as pool:
            first = await pool.getconn()
            clerk.change()
            second = await pool.getconn()  # the old password would be refused
            assert await database.ask(second, "SELECT current_user") == "clerk"
            assert await database.ask(first, "SELECT 1") == 1
            for conn in (first, second):
                await pool.putconn(conn)
            del conn, first, second
            clerk.change()
            await pool.drain()
            await lease_all(pool)
            assert clerk.asked == 5

    go(use())


def test_on_connect_is_awaited_and_what_it_has_set_stays(go, face):
    database = face()

    async def awaited(conn):
        await database.tell(conn, "SET work_mem = '77MB'")

    def in_thread(conn):
        conn.cursor().execute("SET work_mem = '77MB'")

    async def use():
        on_connect = in_thread if database.threaded else awaited
        for reset in ("clean", "session"):
            async with database.pool(0, 1, on_connect=on_connect, reset=reset) as pool:
                for _ in range(3):
                    conn = await pool.getconn()
                    assert not database.in_transaction(conn)
                    assert await database.ask(conn, "SHOW work_mem") == "77MB"
                    await pool.putconn(conn)
                assert pool.stats().opened == 1

    go(use())


def test_a_role_is_asked_for_when_a_connection_is_opened(go, face):
    database = face()

    async def use():
        async with database.pool(0, 1, role="read-write", ping_after=0) as pool:
            await lease_all(pool)
        async with database.pool(0, 1, role="read-only") as pool:
            with pytest.raises(database.error) as caught:
                await pool.getconn(timeout=1)  # in which one is opened, and asked
            assert "read-write" in str(caught.value) + str(caught.value.__cause__)

    go(use())
