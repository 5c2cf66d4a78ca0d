"""A pool of asyncio streams: few sockets, many tasks; who is cancelled leaves no half answer to the next.

    python examples/async_tcp_pool.py                  with a server of its own
    python examples/async_tcp_pool.py --serve 7007     only the server
    python examples/async_tcp_pool.py 127.0.0.1 7007   only the pool

The server says each line again, in capitals; PING it answers with PONG.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from dbpool import AsyncConnectionPool, AsyncTcpConnector

if TYPE_CHECKING:
    from dbpool.connectors.aio_sockets import Stream


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's side of one connection."""
    try:
        while line := await reader.readline():
            writer.write(b"PONG\n" if line == b"PING\n" else line.upper())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def open_pool(host: str, port: int) -> AsyncConnectionPool[Stream]:
    """Return a pool, which belongs to the loop that uses it first."""
    connector = AsyncTcpConnector(host, port, connect_timeout=2, ping=(b"PING\n", b"PONG\n"))
    return AsyncConnectionPool(1, 3, connect=connector, config={"timeout": 5, "check_timeout": 1})


async def ask(pool: AsyncConnectionPool[Stream], word: str) -> str:
    """Return the answer. A connection has a reader and a writer, as asyncio.open_connection() returns them."""
    async with pool.connection() as conn:
        conn.writer.write(word.encode() + b"\n")
        await conn.writer.drain()
        answer = await conn.reader.readuntil(b"\n")
    return answer.decode().rstrip("\n")


async def main(host: str, port: int) -> None:
    """Ask with many tasks, a few of which do not wait for their answer."""
    words = [f"word {number}" for number in range(200)]
    async with open_pool(host, port) as pool:
        tasks = [asyncio.ensure_future(ask(pool, word)) for word in words]
        await asyncio.sleep(0)
        for task in tasks[::20]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        answered = [(word, answer) for word, answer in zip(words, answers) if isinstance(answer, str)]
        assert all(answer == word.upper() for word, answer in answered)
        print(len(answered), "of", len(words), "were answered, nobody was given another's answer")


async def demonstrate() -> None:
    """Serve and ask in one loop."""
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    await main(*server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()


async def serve(port: int) -> None:
    """Serve for ever."""
    async with await asyncio.start_server(shout, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    elif len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    else:
        asyncio.run(demonstrate())
