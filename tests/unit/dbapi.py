"""A fake DB-API module: `connect=dbapi`. Nothing is known of it but PEP 249."""

from __future__ import annotations

from typing import Any

apilevel = "2.0"
calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []  # the arguments of each connect


class Error(Exception):
    """The driver's base error."""


class DatabaseError(Error):
    """The server's fault."""


class Connection:
    """Remembers what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def cursor(self) -> object:
        return object()

    def commit(self) -> None:
        self.done.append("commit")

    def rollback(self) -> None:
        self.done.append("rollback")
        if "close" in self.done:
            raise DatabaseError("closed")

    def close(self) -> None:
        self.done.append("close")


def connect(*args: Any, **kwargs: Any) -> Connection:
    """Return a new connection; "refuse" among the arguments makes it fail."""
    calls.append((args, kwargs))
    if "refuse" in args:
        raise DatabaseError("refused")
    return Connection()
