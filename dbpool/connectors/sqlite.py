"""sqlite3: connections that may change threads and can be weakly referenced."""

from __future__ import annotations

import sqlite3
from typing import Any

from dbpool.connectors.base import Connector


class PooledConnection(sqlite3.Connection):
    """sqlite3.Connection as the pool opens it: it can be weakly referenced, so that a dropped one is noticed."""


class SqliteConnector(Connector):
    """The standard library's sqlite3."""

    error = sqlite3.Error
    hangs = False
    attributes: tuple[str, ...] = ("isolation_level", "row_factory", "text_factory")
    if hasattr(sqlite3.Connection, "autocommit"):  # from Python 3.12
        attributes += ("autocommit",)  # pragma: no cover (3.9 to 3.11)

    def unfit(self, conn: Any) -> Any:
        try:
            conn.in_transaction  # noqa: B018  (raises if closed; with autocommit=False one is always open)
        except sqlite3.ProgrammingError:
            return True
        return False

    def dirty(self, conn: Any) -> Any:
        try:
            return conn.in_transaction
        except sqlite3.ProgrammingError:
            return True

    def reset(self, conn: Any, level: str) -> Any:
        if conn.in_transaction:
            if level == "commit":
                conn.commit()
            elif level != "none":
                self.rollback(conn)
        return None

    def ping(self, conn: Any) -> None:
        conn.execute("SELECT 1").close()

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        if getattr(conn, "autocommit", None) is True:
            if conn.in_transaction:  # pragma: no cover (3.9 to 3.11)
                conn.execute("ROLLBACK")  # rollback() does nothing then
        else:
            conn.rollback()

    def adapt(self, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        # A pooled connection has one holder at a time, whichever thread that is.
        return {"check_same_thread": False, "factory": PooledConnection, **kwargs}
