"""Connector: knows one kind of connection. And how the right one is found for a connection."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from typing import Any, Callable

# Top-level module of a connection's type -> where its connector is. Read through the type's MRO.
_KNOWN = {
    "psycopg2": "dbpool.connectors.libpq:Psycopg2Connector",
    "ksycopg2": "dbpool.connectors.libpq:Ksycopg2Connector",
    "psycopg": "dbpool.connectors.libpq:Psycopg3Connector",
    "pymysql": "dbpool.connectors.mysql:PymysqlConnector",
    "MySQLdb": "dbpool.connectors.mysql:MysqlclientConnector",
    "sqlite3": "dbpool.connectors.sqlite:SqliteConnector",
    "_sqlite3": "dbpool.connectors.sqlite:SqliteConnector",
}


class Connector:
    """One kind of connection: how it is opened, closed, judged and cleaned.

    Pass one as ``connect=`` to pool whatever has a connect and a close, or subclass it.

    Parameters: *connect*, a callable that returns a connection; *close*, called with one (default: its ``close``
    method); *reset*, called with one when it comes back (default: nothing); *ping*, called with one that was not used
    for some time, and raises if it is of no use any more (default: nothing); *error*, the driver's base Error.
    """

    error: type[BaseException] | None = None
    attributes: tuple[str, ...] = ()  # restored by reset="clean"
    levels: frozenset[str] = frozenset(("none", "rollback", "commit", "clean"))
    literal = False  # True: connect is called with what the user gave, as psycopg2's own pools call it
    idle_setting = "idle_session_timeout"  # what the server calls the limit that idle_limit asks for
    hangs = True  # a call may wait for a peer without end, also where there is no descriptor to end it by

    def __init__(
        self, connect: Callable[..., Any] | None = None, *, close: Callable[[Any], Any] | None = None,
        reset: Callable[[Any], Any] | None = None, ping: Callable[[Any], Any] | None = None,
        error: type[BaseException] | None = None,
    ) -> None:  # fmt: skip
        for name, value in (("connect", connect), ("close", close), ("reset", reset), ("ping", ping)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable, not {value!r}")
        self._connect, self._close, self._reset, self._ping = connect, close, reset, ping
        if error is not None:
            self.error = error

    # The two looks that every getconn and putconn take. Quick, without a round trip, and they must not raise.

    def unfit(self, conn: Any) -> Any:
        """True if an idle connection cannot be handed out."""
        return False

    def gone(self, conn: Any) -> Any:
        """True if a connection is closed: the look that reset="none" takes, which lets open transactions pass."""
        return self.unfit(conn)

    def dirty(self, conn: Any) -> Any:
        """True if a connection must be reset before it is pooled."""
        return self._reset is not None

    def is_clean(self, conn: Any) -> bool:
        """Tell from local knowledge whether *conn* is open and not in a transaction."""
        return not self.unfit(conn)

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Open a connection."""
        if self._connect is None:
            raise TypeError(
                f"{type(self).__name__} does not know how to connect: give it connect= or override connect()"
            )
        return self._connect(*args, **kwargs)

    def close(self, conn: Any) -> None:
        """Close a connection; what it raises is ignored."""
        if self._close is None:
            conn.close()
        else:
            self._close(conn)

    def reset(self, conn: Any, level: str) -> Any:
        """Make *conn* fit for its next user; return None, or another to pool instead. Raise to have it closed."""
        return None if self._reset is None else self._reset(conn)

    def ping(self, conn: Any) -> None:
        """Ask the peer for an answer, in one round trip that leaves nothing behind; raise if there is none."""
        if self._ping is not None:
            self._ping(conn)

    def is_writable(self, conn: Any) -> bool | None:
        """Ask whether the server takes writes: a ping, too. None: it has no such notion."""
        return self.ping(conn)  # type: ignore[func-returns-value]

    def idle_limit(self, conn: Any) -> float | None:
        """Ask for how many seconds the server lets a session be idle. None: for ever, or it has no such notion."""
        return None

    def is_busy(self, conn: Any) -> bool:
        """Tell from local knowledge whether another thread is using *conn* just now."""
        return False

    def is_lost(self, conn: Any) -> bool:
        """Tell from local knowledge whether *conn* was lost, rather than closed by its user."""
        return False

    def is_read_only(self, conn: Any, error: BaseException) -> bool:
        """True if *error* means that the server takes no writes, and that not because *conn* was told so."""
        return False

    def is_spoilt(self, conn: Any, error: BaseException) -> bool:
        """True if *error*, which has left a with block, leaves *conn* of no use, whatever a rollback does."""
        return False

    def refusal(self, error: BaseException) -> str | None:
        """Say what an error of connect means.

        "transient": try again later; "permanent": that would not help. Either way the server refuses everybody. None:
        it is the caller's own.
        """
        return None

    def fileno(self, conn: Any) -> int | None:
        """Return the descriptor of the connection's socket, or None if it has none or does not tell."""
        try:
            number = conn.fileno()
        except Exception:
            return None
        return number if isinstance(number, int) and number >= 0 else None

    def backend_pid(self, conn: Any) -> int | None:
        """Return the number by which the server knows the session, from local knowledge; None if there is none."""
        return None

    def commit(self, conn: Any) -> None:
        """Commit what *conn* has under way; nothing for what knows no transactions."""

    def rollback(self, conn: Any) -> None:
        """Roll back what *conn* has under way; nothing for what knows no transactions."""

    def has_transactions(self) -> bool:
        """True if commit() does anything: then a with block looks whether there is something to commit."""
        return getattr(self.commit, "__func__", None) is not Connector.commit

    def marks_of(self) -> Callable[[Any], Any] | None:
        """Return a function that reads the attributes which reset="clean" restores, or None."""
        return attrgetter(*self.attributes) if self.attributes else None

    def changed_from(self, marks: Any) -> Callable[[Any], Any]:
        """Return the look that reset="clean" takes at each return: ``dirty``, or an attribute is not as in *marks*."""
        look, dirty = self.marks_of(), self.dirty
        if look is None:
            return dirty
        return lambda conn: dirty(conn) or look(conn) != marks

    def restore(self, conn: Any, marks: Any) -> None:
        """Set the attributes to what they were."""
        for name, value in zip(self.attributes, marks if len(self.attributes) > 1 else (marks,)):
            if getattr(conn, name) != value:
                setattr(conn, name, value)

    def adapt(self, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Return the keywords for connect with what pooling needs added; it may take so many *seconds*."""
        return kwargs


class DbapiConnector(Connector):
    """Any PEP 249 driver. It cannot be asked whether a transaction is open: each return costs a rollback."""

    def dirty(self, conn: Any) -> Any:
        return True

    def reset(self, conn: Any, level: str) -> Any:
        if level == "commit":
            conn.commit()
        elif level != "none":
            conn.rollback()
        return super().reset(conn, level)

    def ping(self, conn: Any) -> None:
        if self._ping is not None:
            self._ping(conn)
            return
        cursor = conn.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()
        conn.rollback()

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        conn.rollback()


def find(conn: Any) -> Connector:
    """Return the connector for *conn*, found by the module of its type, else by what it can do."""
    connector = by_module(type(conn))
    if connector is not None:
        return connector
    if all(callable(getattr(conn, name, None)) for name in ("cursor", "commit", "rollback")):
        return DbapiConnector()
    return Connector()


def by_module(kind: Any) -> Connector | None:
    """Return the connector of a known driver for a type, a function or a module, or None."""
    for base in getattr(kind, "__mro__", (kind,)):
        module = getattr(base, "__module__", None) or getattr(base, "__name__", "")
        known = _KNOWN.get(str(module).partition(".")[0])
        if known is not None:
            where, _, name = known.partition(":")
            found: Connector = getattr(import_module(where), name)()
            return found
    return None
