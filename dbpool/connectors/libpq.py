"""The libpq drivers: psycopg2, ksycopg2 (KingbaseES), psycopg 3."""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, Callable

from dbpool.connectors.base import Connector

IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)  # libpq's PQtransactionStatus; UNKNOWN once closed


class LibpqConnector(Connector):
    """What they have in common: a transaction status that costs no round trip, and tells of a closed connection too."""

    levels = frozenset(("none", "rollback", "commit", "clean", "session"))

    def status(self, conn: Any) -> int:
        raise NotImplementedError

    def reset(self, conn: Any, level: str) -> Any:
        status = self.status(conn)
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


class Psycopg2Connector(LibpqConnector):
    """psycopg2."""

    attributes = ("autocommit", "isolation_level", "readonly", "deferrable", "cursor_factory")
    module = "psycopg2"

    def __init__(self) -> None:
        super().__init__()
        driver: Any = sys.modules[self.module]
        self.error = driver.Error
        # The C methods themselves, unbound. The status: IDLE is 0, whatever else wants a second look.
        connection = driver.extensions.connection
        self.unfit = self.dirty = self.status = connection.get_transaction_status  # type: ignore[method-assign]
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

    def _discard_all(self, conn: Any) -> None:
        super()._discard_all(conn)
        style, encoding = conn.get_parameter_status("DateStyle"), conn.get_parameter_status("client_encoding")
        if not (style or "ISO").startswith("ISO") or encoding != conn.encoding:
            conn.reset()  # psycopg2 reads the ISO style only, and keeps the encoding in mind: let it set both again


class Ksycopg2Connector(Psycopg2Connector):
    """ksycopg2, KingbaseES's fork of psycopg2."""

    module = "ksycopg2"


class Psycopg3Connector(LibpqConnector):
    """psycopg 3. Its transaction status is quick when it is read from the libpq wrapper itself."""

    attributes = (
        "autocommit",
        "isolation_level",
        "read_only",
        "deferrable",
        "row_factory",
        "cursor_factory",
        "prepare_threshold",
    )

    def __init__(self) -> None:
        super().__init__()
        self.error = sys.modules["psycopg"].Error
        status = attrgetter("pgconn.transaction_status")
        self.unfit = self.dirty = self.status = status  # type: ignore[method-assign,assignment]
        self.gone = attrgetter("closed")  # type: ignore[method-assign,assignment]

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        conn.rollback()
