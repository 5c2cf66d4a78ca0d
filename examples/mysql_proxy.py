"""A MySQL pool made in both ways of the package "pooling": by a subclass, and by two functions; its proxies are used.

    MYSQL_HOST=db.example.com MYSQL_USER=web MYSQL_PASSWORD=secret MYSQL_DATABASE=shop python examples/mysql_proxy.py

The driver is mysqlclient, or with MYSQL_DRIVER=pymysql PyMySQL. The table `pooled_note` is made, and dropped.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from dbpool import ThreadedConnectionPool
from dbpool.connectors.mysql import MysqlclientConnector, PymysqlConnector

DRIVER = os.environ.get("MYSQL_DRIVER", "MySQLdb")
driver = import_module(DRIVER)
cursors = import_module(f"{DRIVER}.cursors")
Base: Any = PymysqlConnector if DRIVER == "pymysql" else MysqlclientConnector

DEFAULTS = {"cursorclass": cursors.DictCursor, "autocommit": True, "charset": "utf8mb4"}
CONFIG = {
    "ping_after": 60,  # pooling pings at each get; 0 does that here
    "reset": "clean",  # rolls back a transaction that was begun all the same, sets autocommit and the like back
}


def settings() -> dict[str, str]:
    """Return where the server is, as both drivers take it."""
    names = {"host": "HOST", "user": "USER", "password": "PASSWORD", "database": "DATABASE", "unix_socket": "SOCKET"}
    return {name: os.environ[f"MYSQL_{word}"] for name, word in names.items() if f"MYSQL_{word}" in os.environ}


class ShopConnector(Base):
    """The first way: a subclass that creates and destroys. What it leaves out is as for any connection of MySQL's."""

    def connect(self, **kwargs: Any) -> Any:
        """Create a connection; *kwargs* is what the pool was given."""
        return driver.connect(**{**DEFAULTS, **kwargs})

    def close(self, conn: Any) -> None:
        """Destroy it; what this raises is ignored."""
        conn.close()


def pool_by_subclass(size: int = 10) -> ThreadedConnectionPool[Any]:
    """Return a pool that opens nothing until somebody asks."""
    return ThreadedConnectionPool(0, size, connect=ShopConnector(), config=CONFIG, **settings())


def create() -> Any:
    """The second way: a function that creates a connection ..."""
    return driver.connect(**DEFAULTS, **settings())


def destroy(conn: Any) -> None:
    """... and one that destroys it. Without it the pool calls conn.close(), and ``connect=create`` is enough."""
    conn.close()


def pool_by_functions(size: int = 10) -> ThreadedConnectionPool[Any]:
    """Return the same pool made of the two functions."""
    return ThreadedConnectionPool(0, size, connect=Base(create, close=destroy), config=CONFIG)


def add(pool: ThreadedConnectionPool[Any], body: str) -> None:
    """Write a note. The proxy goes with the function, and what it stands for goes back to the pool."""
    proxy = pool.connect()
    proxy.cursor().execute("INSERT INTO pooled_note (body) VALUES (%s)", (body,))


def notes(pool: ThreadedConnectionPool[Any]) -> list[str]:
    """Return all notes; this one gives its proxy back by hand."""
    proxy = pool.connect()
    try:
        cursor = proxy.cursor()
        cursor.execute("SELECT body FROM pooled_note ORDER BY id")
        return [row["body"] for row in cursor.fetchall()]  # a DictCursor's rows
    finally:
        proxy.close()


def move(pool: ThreadedConnectionPool[Any], old: str, new: str) -> None:
    """Two statements, of which both are done or none: within a block, and without autocommit there."""
    with pool.connection() as conn:
        conn.begin()
        conn.cursor().execute("DELETE FROM pooled_note WHERE body = %s", (old,))
        conn.cursor().execute("INSERT INTO pooled_note (body) VALUES (%s)", (new,))


def main() -> None:
    """Do the same with both pools."""
    for make in (pool_by_subclass, pool_by_functions):
        with make(3) as pool, ThreadPoolExecutor(8) as threads:
            run = pool.connect()
            run.cursor().execute(
                "CREATE OR REPLACE TABLE pooled_note (id INTEGER PRIMARY KEY AUTO_INCREMENT, body TEXT) CHARSET utf8mb4"
            )
            list(threads.map(lambda number: add(pool, f"note {number} ☃"), range(100)))
            move(pool, "note 7 ☃", "note seven")
            found = notes(pool)
            print(
                f"{make.__name__}: {len(found)} notes, the last is {found[-1]!r}, by",
                pool.stats().opened,
                "connections",
            )
            run.cursor().execute("DROP TABLE pooled_note")
            del run


if __name__ == "__main__":
    main()
