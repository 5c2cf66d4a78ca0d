"""Money moved between accounts by many tasks over few connections, with psycopg 3 and with asyncpg.

To try it:

    export DBPOOL_DSN="postgresql://web@127.0.0.1/bank"
    psql "$DBPOOL_DSN" -c "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))"
    python examples/async_postgres.py
"""

import asyncio
import os
import random

import asyncpg
import psycopg

from dbpool import AsyncConnectionPool, PoolTimeout

ACCOUNTS = 10
CONFIG = {"timeout": 5, "role": "read-write", "max_lifetime": 900}


class ByPsycopg:
    """psycopg 3: a statement begins a transaction, and the block ends it."""

    def pool(self, dsn, **options):
        """Return a pool, which opens nothing until it is entered."""
        connect = psycopg.AsyncConnection.connect
        return AsyncConnectionPool(1, 4, dsn, connect=connect, application_name="bank", config={**CONFIG, **options})

    async def fill(self, pool):
        """Have every account hold 100."""
        async with pool.connection() as conn:
            await conn.execute("TRUNCATE account")
            await conn.execute("INSERT INTO account SELECT n, 100 FROM generate_series(1, %s) AS n", (ACCOUNTS,))

    async def move(self, pool, source, target, amount):
        """Move money; raise psycopg.errors.CheckViolation if there is not enough."""
        statement = "UPDATE account SET balance = balance + %s WHERE id = %s"
        async with pool.connection() as conn:  # commits at the end; after an error it rolls back
            for account, change in sorted([(source, -amount), (target, amount)]):  # in one order: no deadlock
                await conn.execute(statement, (change, account))

    async def total(self, pool):
        """Return what all accounts hold together."""
        async with pool.connection() as conn:
            cursor = await conn.execute("SELECT sum(balance) FROM account")
            return (await cursor.fetchone())[0]

    refused = psycopg.errors.CheckViolation


class ByAsyncpg:
    """asyncpg: each statement is committed by itself, unless there is a transaction()."""

    def pool(self, dsn, **options):
        """Return a pool, which opens nothing until it is entered."""
        settings = {"application_name": "bank"}
        return AsyncConnectionPool(
            1, 4, dsn, connect=asyncpg.connect, server_settings=settings, config={**CONFIG, **options}
        )

    async def fill(self, pool):
        """Have every account hold 100."""
        async with pool.connection() as conn, conn.transaction():
            await conn.execute("TRUNCATE account")
            await conn.execute("INSERT INTO account SELECT n, 100 FROM generate_series(1, $1::int) AS n", ACCOUNTS)

    async def move(self, pool, source, target, amount):
        """Move money; raise asyncpg.CheckViolationError if there is not enough."""
        statement = "UPDATE account SET balance = balance + $1 WHERE id = $2"
        async with pool.connection() as conn, conn.transaction():
            for account, change in sorted([(source, -amount), (target, amount)]):  # in one order: no deadlock
                await conn.execute(statement, change, account)  # prepared once, for all who are given this connection

    async def total(self, pool):
        """Return what all accounts hold together."""
        async with pool.connection() as conn:
            return await conn.fetchval("SELECT sum(balance) FROM account")

    refused = asyncpg.CheckViolationError


async def work(bank, pool, transfers):
    """Move money again and again; return how often there was not enough, and how often nobody had a connection."""
    chance, refused, late = random.Random(), 0, 0
    for _ in range(transfers):
        source, target = chance.sample(range(1, ACCOUNTS + 1), 2)
        try:
            await bank.move(pool, source, target, chance.randint(1, 60))
        except bank.refused:
            refused += 1
        except PoolTimeout:
            late += 1
    return refused, late


async def run(bank, dsn, tasks=20, transfers=25, **options):
    """Have *tasks* move money at a time; return what all accounts hold before and after it."""
    async with bank.pool(dsn, **options) as pool:
        await bank.fill(pool)
        before = await bank.total(pool)
        outcomes = await asyncio.gather(*(work(bank, pool, transfers) for _ in range(tasks)))
        after = await bank.total(pool)
        refused, late = (sum(column) for column in zip(*outcomes))
        stats = pool.stats()
        print(
            f"{type(bank).__name__}: {tasks * transfers} transfers, {refused} refused, {late} timed out, "
            f"{stats.opened} connections, {before} before and {after} after"
        )
        return before, after


async def main(dsn):
    """Do it with each driver."""
    for bank in (ByPsycopg(), ByAsyncpg()):
        before, after = await run(bank, dsn)
        assert before == after


if __name__ == "__main__":
    asyncio.run(main(os.environ["DBPOOL_DSN"]))
