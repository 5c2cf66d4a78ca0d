"""The libpq drivers: psycopg2, ksycopg2 (KingbaseES), psycopg 3."""

from __future__ import annotations

import os
import re
import sys
from math import ceil
from operator import attrgetter
from typing import Any, Callable

from dbpool.connectors.base import Connector

IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)  # libpq's PQtransactionStatus; UNKNOWN once closed
TUPLES_OK = 2  # libpq's PGRES_TUPLES_OK
READ_ONLY = "25006"  # SQLSTATE read_only_sql_transaction
WRITABLE_QUERY = "SHOW transaction_read_only"  # "on" also on a standby; known in all of KingbaseES's modes
IDLE_LIMIT_QUERY = "SELECT max(setting) FROM pg_settings WHERE name = 'idle_session_timeout'"  # ms; PostgreSQL 14
# The drivers give a failed connect no SQLSTATE: what it means is told by its text, in the languages of the servers that
# refuse (28P01, 28000, 3D000; an unknown host; a certificate). Any other refusal is taken to pass.
PERMANENT = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry|pg_hba\.conf rejects"
    r"|not permitted to log in|permission denied for database|could not translate host name|failed to resolve host"
    r"|certificate|unknown ca|private key file|does not support SSL|invalid connection option"
    r"|认证失败|不存在|没有(适)?用于|拒绝来自主机|不允许登录|不允许角色|数据库.*权限不足|证书|无法将主机名",
    re.IGNORECASE,
)
PASSING = re.compile(r"temporary failure in name resolution|try again", re.IGNORECASE)
# The hosts of a DSN: host=a,b and postgresql://user:password@a:1,b:2/
HOSTS = re.compile(r"""\bhost(?:addr)?\s*=\s*'?([^\s'&]+)|://(?:[^/@]*@)?([^/?]+,[^/?]+)""")
LEAST_SECONDS = 2  # what libpq rounds a shorter connect_timeout up to


def _hosts_in(args: tuple[Any, ...]) -> list[str]:
    return ["", *("".join(found) for arg in args if isinstance(arg, str) for found in HOSTS.findall(arg))]


class LibpqConnector(Connector):
    """What they have in common: a transaction status that costs no round trip, and tells of a closed connection too."""

    levels = frozenset(("none", "rollback", "commit", "clean", "session"))
    hangs = False  # what has no descriptor any more is closed
    operational: type[BaseException]  # the driver's OperationalError

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

    def is_busy(self, conn: Any) -> bool:
        return self.status(conn) == ACTIVE

    def is_read_only(self, conn: Any, error: BaseException) -> bool:
        state = next((getattr(error, name) for name in ("sqlstate", "pgcode", "kbcode") if hasattr(error, name)), None)
        return state == READ_ONLY and not self._is_told_read_only(conn)

    def _is_told_read_only(self, conn: Any) -> bool:
        raise NotImplementedError

    def is_writable(self, conn: Any) -> bool | None:
        return bool(self._ask(conn, WRITABLE_QUERY) == "off")

    def idle_limit(self, conn: Any) -> float | None:
        return int(self._ask(conn, IDLE_LIMIT_QUERY) or 0) / 1000 or None

    def ping(self, conn: Any) -> None:
        self._ask(conn, "SELECT 1")

    def _ask(self, conn: Any, query: str) -> str | None:
        """Return the one value of a query, in one round trip that leaves no transaction open."""
        raise NotImplementedError

    def refusal(self, error: BaseException) -> str | None:
        if not isinstance(error, self.operational):
            return None
        text = str(error)
        return "permanent" if PERMANENT.search(text) and not PASSING.search(text) else "transient"

    def adapt(self, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Have libpq end what takes too long, unless the caller told it when to.

        Each of several hosts is given its part of the time: else libpq would wait for the first one without end. With
        one, the pool leaves the connect behind in time, and libpq ends it a little later.
        """
        hosts = 1 + max(each.count(",") for each in [*_hosts_in(args), str(kwargs.get("host", ""))])
        told = (
            "connect_timeout" in kwargs
            or any("connect_timeout" in str(arg) for arg in args)
            or "PGCONNECT_TIMEOUT" in os.environ
        )
        if told or seconds is None or (hosts == 1 and self.literal):
            return kwargs
        each = int(seconds / hosts) if hosts > 1 else ceil(seconds) + 1
        return {**kwargs, "connect_timeout": max(LEAST_SECONDS, each)}

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
        self.error, self.operational = driver.Error, driver.OperationalError
        self._cursor = driver.extensions.cursor
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

    def _ask(self, conn: Any, query: str) -> Any:
        """Run *query* in no transaction: then it is one round trip, not three."""
        told = (conn.isolation_level, conn.readonly, conn.deferrable) != (None, None, None)
        # Once something was told of transactions, psycopg2 tells the server when autocommit is left.
        alone = not conn.autocommit and not told
        if alone:
            conn.autocommit = True
        try:
            with self._cursor(conn) as cursor:
                cursor.execute(query)
                return cursor.fetchone()[0]
        finally:
            if not conn.closed:
                if alone:
                    conn.autocommit = False
                elif not conn.autocommit:
                    conn.rollback()

    def backend_pid(self, conn: Any) -> int | None:
        return conn.get_backend_pid()  # type: ignore[no-any-return]

    def is_lost(self, conn: Any) -> bool:
        return bool(conn.closed == 2)

    def _is_told_read_only(self, conn: Any) -> bool:
        return bool(conn.readonly)

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
        driver: Any = sys.modules["psycopg"]
        self.error, self.operational = driver.Error, driver.OperationalError
        status = attrgetter("pgconn.transaction_status")
        self.unfit = self.dirty = self.status = status  # type: ignore[method-assign,assignment]
        self.gone = attrgetter("closed")  # type: ignore[method-assign,assignment]

    def marks_of(self) -> Callable[[Any], Any] | None:
        return attrgetter(*self.attributes, "pgconn.pipeline_status")

    def restore(self, conn: Any, marks: Any) -> None:
        if conn.pgconn.pipeline_status:  # the status says idle until something was sent
            raise self.operational("it is still in pipeline mode")
        super().restore(conn, marks)

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        conn.rollback()

    def _discard_all(self, conn: Any) -> None:
        conn._prepared.clear()  # else it goes on using what it has prepared: it sees DISCARD ALL the first time only
        super()._discard_all(conn)

    def _ask(self, conn: Any, query: str) -> str | None:
        """Ask through libpq itself: one round trip, no transaction, no prepared statement, no row factory."""
        result = conn.pgconn.exec_(query.encode())
        if result.status != TUPLES_OK:
            raise self.operational(conn.pgconn.error_message.decode(errors="replace").strip() or "no answer")
        value = result.get_value(0, 0)
        return None if value is None else value.decode()

    def backend_pid(self, conn: Any) -> int | None:
        return conn.pgconn.backend_pid  # type: ignore[no-any-return]

    def is_lost(self, conn: Any) -> bool:
        return bool(conn.broken)

    def _is_told_read_only(self, conn: Any) -> bool:
        return bool(conn.read_only)
