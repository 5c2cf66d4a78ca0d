"""What the tests do with the table `note`, and with a pool."""

from __future__ import annotations

import pytest

DRIVERS_OWN = ("was deleted", "nclosed")  # what they say of a connection that was dropped


def drops(test):
    """Mark a test that drops connections: the drivers may say so, too."""
    for text in DRIVERS_OWN:
        test = pytest.mark.filterwarnings(f"ignore:.*{text}:ResourceWarning")(test)
    return test


async def write(database, conn, body="lost"):
    """Write a row, in a transaction that stays open."""
    await database.tell(conn, f"INSERT INTO note VALUES ('{body}')")
    assert database.in_transaction(conn)


async def write_and_fail(database, block):
    """Write a row in a block that fails."""
    async with block as conn:
        await write(database, conn)
        raise ZeroDivisionError


async def count(database, conn):
    """Return how many rows there are."""
    return await database.ask(conn, "SELECT count(*) FROM note")


async def lease_all(pool):
    """Lease maxconn different connections at a time, and put them back: no slot is lost."""
    conns = [await pool.getconn(timeout=5) for _ in range(pool.maxconn)]
    assert len({id(conn) for conn in conns}) == pool.maxconn
    for conn in conns:
        await pool.putconn(conn)
