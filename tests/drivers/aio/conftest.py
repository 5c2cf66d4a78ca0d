"""Gives the tests of the asynchronous pool each driver in each kind of loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from loops import Loops, loops

from .faces import FILES, SERVERS, Aiomysql, Face

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Cluster


@pytest.fixture
def mariadb(mariadb: dict[str, Any]) -> dict[str, Any]:
    """The arguments of aiomysql for a MariaDB: it has a name of its own for the database."""
    return {"db" if name == "database" else name: value for name, value in mariadb.items()}


# Each driver in asyncio's own loop, and those that are awaited in uvloop's, too.
BOTH = [("asyncio", name) for name in (*SERVERS, *FILES, "aiomysql")]
BOTH += [("uvloop", name) for name in ("psycopg", "asyncpg", "aiosqlite", "aiomysql")]


@pytest.fixture(params=BOTH, ids="-".join)
def both(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A kind of loop, and a driver."""
    return request.param


@pytest.fixture
def run(both: tuple[str, str]) -> Loops:
    """Runs a coroutine in a loop of that kind."""
    return loops(both[0])


@pytest.fixture
def database(both: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> Face:
    """That driver, with an empty table `note`."""
    name = both[1]
    if name in FILES:
        database = FILES[name](str(tmp_path / "notes.db"))
    elif name in SERVERS:
        database = SERVERS[name](request.getfixturevalue("server").dsn)
    else:
        database = Aiomysql(**request.getfixturevalue("mariadb"))
    loops("asyncio")(empty(database))
    return database


async def empty(database: Face) -> None:
    """Make the table anew."""
    async with database.pool() as pool, pool.connection() as conn:
        await database.tell(conn, *database.fresh)


# What speaks to PostgreSQL, in each kind of loop.
SPEAKERS = [("asyncio", "psycopg"), ("asyncio", "asyncpg"), ("uvloop", "psycopg"), ("uvloop", "asyncpg")]
SPEAKERS += [("asyncio", "psycopg2")]


@pytest.fixture(params=SPEAKERS, ids="-".join)
def speaker(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A kind of loop, and a driver that speaks to PostgreSQL."""
    return request.param


@pytest.fixture
def go(speaker: tuple[str, str]) -> Loops:
    """Runs a coroutine in a loop of that kind."""
    return loops(speaker[0])


@pytest.fixture
def postgres(speaker: tuple[str, str], tcp: Cluster) -> Face:
    """That driver, with a server that the tests may stop and freeze; it runs."""
    if tcp._postmaster is None:
        tcp.start()
    return SERVERS[speaker[1]](tcp.dsn)
