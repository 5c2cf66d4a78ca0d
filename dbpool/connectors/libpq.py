"""The libpq drivers: psycopg2."""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, Callable

from dbpool.connectors.base import Connector

IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)  # libpq's PQtransactionStatus; UNKNOWN once closed


class Psycopg2Connector(Connector):
    """psycopg2. Its transaction status costs no round trip, and tells of a closed connection too."""

    attributes = ("autocommit", "isolation_level", "readonly", "deferrable", "cursor_factory")
    levels = frozenset(("none", "rollback", "commit", "clean", "session"))
    module = "psycopg2"

    def __init__(self) -> None:
        super().__init__()
        driver: Any = sys.modules[self.module]
        self.error = driver.Error
        # The C methods themselves, unbound. The status: IDLE is 0, whatever else wants a second look.
        connection = driver.extensions.connection
        self.unfit = self.dirty = connection.get_transaction_status  # type: ignore[method-assign]
        self.gone = attrgetter("closed")  # type: ignore[method-assign,assignment]
        self.commit, self.rollback = connection.commit, connection.rollback  # type: ignore[method-assign]

    def changed_from(self, marks: Any) -> Callable[[Any], Any]:
        status, (autocommit, isolation, readonly, deferrable, factory) = self.dirty, marks

        def changed(conn: Any) -> Any:
            # By identity and one by one: half of what building and comparing two tuples costs. These are small
            # integers, True, False, None and a class; should one be equal but not the same, the slow look decides.
            return (
                status(conn)
                or conn.autocommit is not autocommit
                or conn.isolation_level is not isolation
                or conn.readonly is not readonly
                or conn.deferrable is not deferrable
                or conn.cursor_factory is not factory
            )

        return changed

    def reset(self, conn: Any, level: str) -> Any:
        status = conn.get_transaction_status()
        if status in (ACTIVE, UNKNOWN):
            raise self.error("it is closed, or still busy with a statement")  # type: ignore[misc]
        if status == INTRANS and level == "commit":
            conn.commit()
        elif status != IDLE and level != "none":
            conn.rollback()
        if level == "session":
            self._discard_all(conn)
        return None

    def _discard_all(self, conn: Any) -> None:
        conn.autocommit = True  # DISCARD ALL refuses to run in a transaction
        with conn.cursor() as cursor:
            cursor.execute("DISCARD ALL")
        style, encoding = conn.get_parameter_status("DateStyle"), conn.get_parameter_status("client_encoding")
        if not (style or "ISO").startswith("ISO") or encoding != conn.encoding:
            conn.reset()  # psycopg2 reads the ISO style only, and keeps the encoding in mind: let it set both again
