"""Streams in the loops that there are: asyncio's own and uvloop's."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings

import pytest
from loops import soon

from dbpool import AsyncConnectionPool, AsyncTcpConnector, AsyncTlsConnector, AsyncUnixConnector

from .awaiting import lease_all
from .hosts import HERE, Host, hang_up, papers_in
from .threads import eventually


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority."""
    return papers_in(tmp_path_factory.mktemp("papers"))


@pytest.fixture(params=["tcp", "tls", "unix"])
def place(request, tmp_path):
    """A host, and a connector that leads there."""
    if request.param == "unix":
        host = Host(socket.AF_UNIX, str(tmp_path / "socket"))
        connector = AsyncUnixConnector(host.address)
    elif request.param == "tls":
        papers = request.getfixturevalue("papers")
        host = Host(context=papers.issue("good", HERE).context())
        connector = AsyncTlsConnector(HERE, host.port, context=ssl.create_default_context(cafile=papers.file))
    else:
        host = Host()
        connector = AsyncTcpConnector(HERE, host.port)
    yield host, connector
    host.end()


async def echo(pool, word):
    async with pool.connection() as conn:
        conn.writer.write(word)
        assert await conn.reader.readexactly(len(word)) == word


async def test_many_tasks_share_few_streams(place, loop_kind):
    async with AsyncConnectionPool(1, 3, connect=place[1]) as pool:
        await asyncio.gather(*(echo(pool, f"word {number}\n".encode()) for number in range(60)))
        assert pool.stats().opened <= 3
        assert pool.stats().discards == {}
        await lease_all(pool)


async def test_who_is_cancelled_in_the_midst_of_an_answer_leaves_it_to_nobody(place, loop_kind):
    async with AsyncConnectionPool(0, 2, connect=place[1]) as pool:

        async def ask():
            async with pool.connection() as conn:
                conn.writer.write(b"half an answer")
                await conn.reader.readexactly(100)

        for _ in range(5):
            task = asyncio.ensure_future(ask())
            await soon(lambda: pool.stats().used)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await echo(pool, b"mine\n")
        assert pool.stats().used == 0


async def test_what_the_peer_has_closed_is_noticed_by_the_watch(place, loop_kind):
    host, connector = place
    async with AsyncConnectionPool(1, 1, connect=connector) as pool:
        await echo(pool, b"hello\n")
        hang_up(host.accepted[0])
        await soon(lambda: pool.stats().discards == {"lost": 1})
        await echo(pool, b"hello again\n")


async def test_a_dropped_stream_is_closed(place, loop_kind):
    host, connector = place
    async with AsyncConnectionPool(0, 1, connect=connector) as pool:
        conn = await pool.getconn()
        conn.writer.write(b"hello\n")
        await conn.reader.readexactly(6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del conn
            gc.collect()
            await echo(pool, b"hello\n")
        assert pool.stats().discards == {"dropped": 1}
        await soon(lambda: not host.threads[1].is_alive())  # it has read the end


async def test_a_connect_that_is_cut_off_leaves_nothing_open(papers, loop_kind):
    host = Host(listens=False)
    connector = AsyncTlsConnector(HERE, host.port, context=ssl.create_default_context(cafile=papers.file))
    pool = AsyncConnectionPool(0, 1, connect=connector, config={"connect_timeout": 0.05, "timeout": 0.2})
    with pytest.raises(TimeoutError):
        await pool.getconn()
    await pool.close()
    gc.collect()  # a socket that nobody closed would warn
    host.end()


def test_streams_of_a_loop_that_was_closed_are_let_go(place):
    host, connector = place
    pool = AsyncConnectionPool(0, 1, connect=connector)
    for round_ in range(2):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.wait_for(echo(pool, b"hello\n"), 10))
        loop.close()
        assert len(host.accepted) == round_ + 1
    loop = asyncio.new_event_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of transports that their loop has left open
        loop.run_until_complete(asyncio.wait_for(pool.close(), 10))
        loop.close()
        gc.collect()


async def test_a_server_that_hangs_up_on_newcomers_is_waited_for(loop_kind):
    """A balancer whose servers restart lets everybody in, and out again."""
    rude, polite = Host(says=b""), Host()
    met = []

    def meet(conn):
        met.append(conn)
        if len(met) == 1:
            eventually(lambda: rude.accepted)
            hang_up(rude.accepted[0])
            eventually(lambda: connector.is_lost(conn))
            connector._peer = AsyncTcpConnector(HERE, polite.port)._peer

    connector = AsyncTcpConnector(HERE, rude.port)
    async with AsyncConnectionPool(0, 1, connect=connector, config={"on_connect": meet, "timeout": 5}) as pool:
        await echo(pool, b"hello\n")
        assert (len(met), pool.stats().connect_errors) == (2, 1)
    rude.end()
    polite.end()
