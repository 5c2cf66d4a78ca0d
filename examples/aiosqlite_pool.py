"""A pool of aiosqlite connections: what happens when one is got, given back, idle and closed, all of it chosen here.

    python examples/aiosqlite_pool.py notes.db

It writes notes with many tasks on few connections, then the same from code that is not asynchronous.
"""

from __future__ import annotations

import asyncio
import sys
import threading

import aiosqlite

from dbpool import AsyncConnectionPool
from dbpool.connectors.aio_sqlite import AiosqliteConnector

CONFIG = {
    "timeout": 2,  # seconds that a get waits, connecting included; then it raises PoolTimeout
    "ping_after": 0,  # ping on get: always. 60: only what nobody has used for a minute. None: never
    "ping_on_return": True,  # ping on give-back
    "ping_interval": 30,  # ping when idle, every 30 seconds
    "idle_timeout": 300,  # seconds after which what is idle is closed, down to minconn
    "reset": "rollback",  # on give-back: "commit", "rollback", or "none" to leave the transaction as it is
}


class NotesConnector(AiosqliteConnector):
    """How the pool treats a connection. What is not overridden is as for any connection of aiosqlite's."""

    def __init__(self, replace_after: int = 1000) -> None:
        super().__init__()
        self.replace_after = replace_after  # changes of the database, after which a connection is replaced
        self.path = ""
        self.pings = self.returns = self.closes = 0

    async def connect(self, path: str) -> aiosqlite.Connection:
        """Open a connection."""
        self.path = path
        conn = await aiosqlite.connect(path)
        await conn.execute("PRAGMA journal_mode = WAL")  # readers do not wait for who writes
        return conn

    async def ping(self, conn: aiosqlite.Connection) -> None:
        """Raise if *conn* is of no use any more."""
        self.pings += 1
        await super().ping(conn)

    def dirty(self, conn: aiosqlite.Connection) -> bool:
        """Have reset() see every connection that comes back; else it sees those with an open transaction."""
        return True

    async def reset(self, conn: aiosqlite.Connection, level: str) -> aiosqlite.Connection | None:
        """End what *conn* has under way, as *level* says. Return None, or a new connection that takes its place."""
        self.returns += 1
        await super().reset(conn, level)
        return await self.connect(self.path) if conn.total_changes >= self.replace_after else None

    async def close(self, conn: aiosqlite.Connection) -> None:
        """Close *conn*."""
        self.closes += 1
        try:
            await conn.execute("PRAGMA optimize")  # as SQLite recommends
        finally:
            await super().close(conn)


async def open_pool(path: str, maxconn: int = 3, **options: object) -> AsyncConnectionPool[aiosqlite.Connection]:
    """Return a pool that may be empty later, but has one connection now: so a path that is wrong is told at once."""
    config = {**CONFIG, **options}
    pool = AsyncConnectionPool(0, maxconn, path, connect=NotesConnector(), config=config)
    await pool.open(ready=1)
    async with pool.connection() as conn:  # commits, or rolls back on an error, and gives the connection back
        await conn.execute("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    return pool


async def add(pool: AsyncConnectionPool[aiosqlite.Connection], body: str) -> None:
    """Write a note, in a transaction of its own."""
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO note (body) VALUES (?)", (body,))


async def count(pool: AsyncConnectionPool[aiosqlite.Connection]) -> int:
    """Return how many notes there are. By hand: what getconn() gives, putconn() has to be given."""
    conn = await pool.getconn()
    try:
        async with conn.execute("SELECT count(*) FROM note") as cursor:
            (number,) = await cursor.fetchone()
            return number
    finally:
        await pool.putconn(conn)


class Notes:
    """The same for code that is not asynchronous. A pool belongs to one loop: this one, in a thread of its own."""

    def __init__(self, path: str, **options: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="notes", daemon=True)
        self._thread.start()
        self.pool = self._run(open_pool(path, **options))

    def add(self, body: str) -> None:
        """Write a note; from any thread."""
        self._run(add(self.pool, body))

    def count(self) -> int:
        """Return how many notes there are."""
        return self._run(count(self.pool))

    def close(self) -> None:
        """Close the pool, and end the loop."""
        self._run(self.pool.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def main(path: str) -> None:
    """Write notes with many tasks at a time."""
    pool = await open_pool(path)
    async with pool:  # closes it at the end
        await asyncio.gather(*(add(pool, f"note {number}") for number in range(100)))
        stats = pool.stats()
        print(await count(pool), "notes by", stats.opened, "connections,", stats.waits, "times somebody waited")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    notes = Notes(sys.argv[1])
    notes.add("from another world")
    print(notes.count(), "notes")
    notes.close()
