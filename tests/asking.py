"""Statements on a DB-API connection, in one line each."""

from __future__ import annotations

from typing import Any


def ask(conn: Any, query: str) -> Any:
    """Return the first value of the first row."""
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def tell(conn: Any, *statements: str) -> None:
    """Execute statements that return nothing of interest."""
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
