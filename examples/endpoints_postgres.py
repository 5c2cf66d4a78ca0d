"""Orders moved from one database to another by many threads, with one total over the connections to both.

To try it:

    createdb shop; createdb archive
    export SHOP_DSN="postgresql://web@127.0.0.1/shop" ARCHIVE_DSN="postgresql://web@127.0.0.1/archive"
    python examples/endpoints_postgres.py
"""

import os
from concurrent.futures import ThreadPoolExecutor

from dbpool import EndpointPool

ORDERS, WORKERS, TOTAL = 200, 8, 3
TABLE = "CREATE TABLE IF NOT EXISTS purchase (number int PRIMARY KEY, item text NOT NULL)"


def open_pool(shop, archive, **options):
    """Return a pool over both databases: one connection to each at once, and never more than TOTAL to the server."""
    return EndpointPool(
        1, TOTAL, endpoints={"shop": shop, "archive": archive}, total=TOTAL, application_name="mover",
        config={"timeout": 10, **options},
    )  # fmt: skip


def fill(pool):
    """Have ORDERS orders in the shop, and none in the archive."""
    for name in ("shop", "archive"):
        with pool.connection(name) as conn, conn.cursor() as cursor:
            cursor.execute(TABLE)
            cursor.execute("TRUNCATE purchase")
    with pool.connection("shop") as conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO purchase SELECT n, 'item ' || n FROM generate_series(1, %s) AS n", (ORDERS,))


def move(pool, number):
    """Move one order. Never hold one connection while waiting for another: read, give back, and only then write."""
    with pool.connection("shop") as conn, conn.cursor() as cursor:
        cursor.execute("SELECT item FROM purchase WHERE number = %s", (number,))
        (item,) = cursor.fetchone()
    with pool.connection("archive") as conn, conn.cursor() as cursor:
        cursor.execute("INSERT INTO purchase VALUES (%s, %s) ON CONFLICT DO NOTHING", (number, item))
    with pool.connection("shop") as conn, conn.cursor() as cursor:  # only once the archive has it
        cursor.execute("DELETE FROM purchase WHERE number = %s", (number,))


def count(pool, name):
    """Return how many orders a database has."""
    with pool.connection(name) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM purchase")
        return cursor.fetchone()[0]


def main():
    """Move them all, and say what that took."""
    with open_pool(os.environ["SHOP_DSN"], os.environ["ARCHIVE_DSN"]) as pool:
        fill(pool)
        with ThreadPoolExecutor(WORKERS) as workers:
            list(workers.map(lambda number: move(pool, number), range(1, ORDERS + 1)))
        print(f"{count(pool, 'shop')} orders in the shop, {count(pool, 'archive')} in the archive")
        leases = {name: stats.leases for name, stats in sorted(pool.stats().items())}
        print(f"at most {TOTAL} connections at a time; leases: {leases}")


if __name__ == "__main__":
    main()
