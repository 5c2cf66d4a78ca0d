"""SQLAlchemy over pool.connect() with psycopg2: ``create_engine("postgresql+dbpool://", creator=pool.connect)``.

The plain one hands each new connection to psycopg2's register_uuid, a C function that takes no proxy.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2


class PooledDialect(PGDialect_psycopg2):
    """The same, but that what insists on psycopg2's own connection is given it."""

    supports_statement_cache = True

    def on_connect(self) -> Any:
        dialect: Any = super()
        prepare = dialect.on_connect()
        return prepare and (lambda conn: prepare(getattr(conn, "raw", conn)))
