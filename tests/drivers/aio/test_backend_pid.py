"""Each connection's number at its server, by the drivers that are awaited and by the others in threads."""

from __future__ import annotations

from .faces import FILES


def test_it_is_what_the_server_says(run, database, both):
    async def work():
        async with database.pool() as pool, pool.connection() as conn:
            (entry,) = pool._entries.values()
            if both[1] in FILES:
                assert entry.backend_pid is None
            else:
                query = "connection_id" if "mysql" in both[1] else "pg_backend_pid"
                assert entry.backend_pid == await database.ask(conn, f"SELECT {query}()")

    run(work())
