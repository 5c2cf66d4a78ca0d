"""A pool over a SQLite file, as a program with threads wants it: write-ahead log, busy time-out, short transactions.

    python examples/sqlite_pool.py shop.db

Threads sell what is in stock, and read meanwhile. Nothing is sold twice, and nobody hears "database is locked".
"""

from __future__ import annotations

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

from dbpool import ThreadedConnectionPool

STOCK = 100


def prepare(conn: sqlite3.Connection) -> None:
    """Set what is to hold for each connection; called once for each."""
    conn.execute("PRAGMA journal_mode = WAL")  # readers do not wait for who writes; the file remembers it
    conn.execute("PRAGMA synchronous = NORMAL")  # enough with WAL: a crash of the program loses nothing
    conn.execute("PRAGMA foreign_keys = ON")  # off by default, in each connection anew


def open_pool(path: str, maxconn: int = 4) -> ThreadedConnectionPool[sqlite3.Connection]:
    """Return a pool. Not for ":memory:", where each connection has a database of its own."""
    return ThreadedConnectionPool(
        1,
        maxconn,
        path,
        # With connect=sqlite3 the pool passes check_same_thread=False: a connection has one holder at a time, but not
        # always the same thread. A function of your own that calls sqlite3.connect has to do that itself.
        connect=sqlite3,
        timeout=10,  # sqlite3's own: seconds that a statement waits for another connection's transaction
        isolation_level=None,  # transactions begin where this program says so, see sell()
        config={"on_connect": prepare, "timeout": 10},  # the pool's: seconds that a thread waits for a connection
    )


def fill(pool: ThreadedConnectionPool[sqlite3.Connection]) -> None:
    """Begin with so much in stock, and nothing sold."""
    with pool.connection() as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, number INTEGER CHECK (number >= 0))")
        conn.execute("CREATE TABLE IF NOT EXISTS sale (id INTEGER PRIMARY KEY, item TEXT REFERENCES stock)")
        conn.execute("DELETE FROM sale")
        conn.execute("INSERT OR REPLACE INTO stock VALUES ('tea', ?)", (STOCK,))


def sell(pool: ThreadedConnectionPool[sqlite3.Connection]) -> bool:
    """Sell one; False if none is left. The block commits at its end, and rolls back if it is left by an error."""
    with pool.connection() as conn:
        # IMMEDIATE: take the right to write before anything is read. One that reads first and writes then is refused
        # at once if another has written between, and no busy time-out helps.
        conn.execute("BEGIN IMMEDIATE")
        (left,) = conn.execute("SELECT number FROM stock WHERE item = 'tea'").fetchone()
        if left:
            conn.execute("UPDATE stock SET number = number - 1 WHERE item = 'tea'")
            conn.execute("INSERT INTO sale (item) VALUES ('tea')")
        return bool(left)


def count(pool: ThreadedConnectionPool[sqlite3.Connection]) -> tuple[int, int]:
    """Return how many are in stock, and how many are sold, at one moment."""
    with pool.connection() as conn:
        return conn.execute("SELECT (SELECT number FROM stock), (SELECT count(*) FROM sale)").fetchone()


def main(path: str) -> None:
    """Have more buyers than there is in stock."""
    with open_pool(path) as pool, ThreadPoolExecutor(12) as threads:
        fill(pool)
        sales = [threads.submit(sell, pool) for _ in range(2 * STOCK)]
        looks = [threads.submit(count, pool) for _ in range(STOCK)]
        assert all(sum(look.result()) == STOCK for look in looks)
        print(sum(sale.result() for sale in sales), "sold,", count(pool), "in stock and in the books")


if __name__ == "__main__":
    main(sys.argv[1])
