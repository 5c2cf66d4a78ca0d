"""The MySQL drivers, PyMySQL and mysqlclient, and what aiomysql has in common with them."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from math import ceil
from typing import Any, Callable

from dbpool.connectors.base import Connector

IN_TRANSACTION, AUTOCOMMIT = 1, 2  # of the status flags in the server's answers
RESET_CONNECTION = 31  # the command that makes a session anew
IDLE_LIMIT_QUERY = "SELECT @@wait_timeout"  # s
WRITABLE_QUERY = "SELECT @@global.read_only"  # also on a replica; with what the session was told left aside
LONGEST_SECONDS = 31536000  # of connect_timeout; PyMySQL takes no more

# The connection is of no use any more: gone away, lost, lost again, shutting down, killed, idle for too long.
LOST = frozenset((2006, 2013, 2055, 1053, 1927, 4031))
# Access denied (four kinds), unknown database, host not allowed or blocked, an account that is locked or whose
# password has expired, TLS required, and how to log in is not agreed on.
PERMANENT = frozenset((1044, 1045, 1698, 1873, 1049, 1130, 1129, 3118, 4151, 1862, 3159, 1251, 1524, 2058, 2059, 2061))
# Too many connections (of all, of the user, in an hour), network errors, offline mode, ProxySQL without a backend.
TRANSIENT = LOST | {1040, 1203, 1226, 1158, 1159, 1160, 1161, 3032, 9001}
CLIENT_ERRORS = range(2000, 3000)  # what the client itself finds: no server, or one that goes away
# Those whose code alone does not tell: an unknown host (but not -3, try again), a certificate.
HOPELESS = re.compile(
    r"name or service not known|nodename nor servname|no address associated|unknown server host.*\((?!-3\))"
    r"|certificate",
    re.IGNORECASE,
)
# 1290 names the option that is in the way, which may be another; 1836, 1874: the server is, its storage is read-only.
READ_ONLY_OPTION, READ_ONLY_MODES = 1290, (1836, 1874)


def code_of(error: BaseException) -> int:
    """Return the number of an error; 0 if it has none."""
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


class Codes:
    """What the numbers of errors mean."""

    error: type[BaseException] | None

    def refusal(self, error: BaseException) -> str | None:
        if self.error is None or not isinstance(error, self.error):
            return None
        code = code_of(error)
        if code in PERMANENT or (code in CLIENT_ERRORS and HOPELESS.search(f"{error} {error.__cause__}")):
            return "permanent"
        return "transient" if code in TRANSIENT or code in CLIENT_ERRORS else None

    def is_read_only(self, conn: Any, error: BaseException) -> bool:
        if self.error is None or not isinstance(error, self.error):
            return False
        code = code_of(error)
        return code in READ_ONLY_MODES or (code == READ_ONLY_OPTION and bool(re.search("read.only", str(error))))


class Ended:
    """Takes the place of a driver's last result: the session was made clean, and nothing was done in it since."""

    server_status = 0
    insert_id = 0
    unbuffered_active = has_next = False


ENDED = Ended()


class Answers(Codes):
    """Whether a transaction is open, as far as the drivers written in Python remember the server's answers.

    They remember the flags of those that say OK. Rows come without, and so do errors, but a query that fails, or only
    reads, may have begun a transaction, and locked rows. Then it is taken to be open.
    """

    def gone(self, conn: Any) -> Any:
        raise NotImplementedError

    def unfit(self, conn: Any) -> Any:
        result = conn._result
        return (
            self.gone(conn)
            or conn.server_status & IN_TRANSACTION
            or (result is not None and (result.unbuffered_active or result.has_next))
        )

    def dirty(self, conn: Any) -> Any:
        result = conn._result
        return (
            self.unfit(conn)
            or result is None  # after an error; also after a commit of the user's own, which then costs a rollback
            or (result.server_status is None and not conn.server_status & AUTOCOMMIT)
        )

    def _refuse_unread(self, conn: Any) -> None:
        """Raise for what cannot be reset. The driver would read the rest of the rows, however many they are."""
        if self.gone(conn) or (conn._result is not None and conn._result.unbuffered_active):
            assert self.error is not None
            raise self.error("it is closed, or has rows that nobody has read")


class MysqlConnector(Codes, Connector):
    """What PyMySQL and mysqlclient have in common."""

    hangs = False  # what has no descriptor any more is closed
    idle_setting = "wait_timeout"
    module: str

    def __init__(self, connect: Callable[..., Any] | None = None, *, close: Callable[[Any], Any] | None = None) -> None:
        super().__init__(connect, close=close)
        driver: Any = sys.modules[self.module]
        self.error = driver.Error
        self._cursor = import_module(f"{self.module}.cursors").Cursor

    def adapt(self, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None) -> dict[str, Any]:
        """Have the driver end what takes too long, unless the caller told it when to."""
        told = "connect_timeout" in kwargs or "read_default_file" in kwargs or "read_default_group" in kwargs
        if told or seconds is None or self.literal:
            return kwargs
        return {**kwargs, "connect_timeout": min(ceil(seconds) + 1, LONGEST_SECONDS)}

    def backend_pid(self, conn: Any) -> int | None:
        return conn.thread_id()  # type: ignore[no-any-return]

    def is_writable(self, conn: Any) -> bool | None:
        return str(self._ask(conn, WRITABLE_QUERY)).strip("b'") in ("0", "OFF")

    def idle_limit(self, conn: Any) -> float | None:
        return float(self._ask(conn, IDLE_LIMIT_QUERY)) or None

    def _ask(self, conn: Any, query: str) -> Any:
        """Return the one value of a query that reads no table, and so begins no transaction."""
        cursor = conn.cursor(self._cursor)
        try:
            cursor.execute(query)
            return cursor.fetchone()[0]
        finally:
            cursor.close()

    def restore(self, conn: Any, marks: Any) -> None:
        autocommit, conn.cursorclass, *charset = marks
        if self._charset(conn) != charset:
            conn.set_character_set(*charset)
        if conn.get_autocommit() != autocommit:
            conn.autocommit(autocommit)

    def marks_of(self) -> Any:
        return lambda conn: (conn.get_autocommit(), conn.cursorclass, *self._charset(conn))

    def _charset(self, conn: Any) -> list[Any]:
        raise NotImplementedError

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        conn.rollback()


class PymysqlConnector(Answers, MysqlConnector):
    """PyMySQL."""

    levels = frozenset(("none", "rollback", "commit", "clean", "session"))
    module = "pymysql"

    def gone(self, conn: Any) -> Any:
        return conn._sock is None

    def is_lost(self, conn: Any) -> bool:
        return conn._sock is None and not conn._closed

    def fileno(self, conn: Any) -> int | None:
        return None if conn._sock is None else super().fileno(conn._sock)

    def reset(self, conn: Any, level: str) -> Any:
        if level == "session":
            self._refuse_unread(conn)
            self._renew(conn)
        elif level == "commit":
            self.commit(conn)
        elif level != "none":
            self.rollback(conn)
        return None

    def commit(self, conn: Any) -> None:
        conn.commit()
        conn._result = ENDED

    def rollback(self, conn: Any) -> None:
        self._refuse_unread(conn)
        conn.rollback()
        conn._result = ENDED

    def ping(self, conn: Any) -> None:
        was_clean = not self.dirty(conn)
        conn.ping(reconnect=False)
        if was_clean:
            conn._result = ENDED

    def restore(self, conn: Any, marks: Any) -> None:
        super().restore(conn, marks)
        conn._result = ENDED

    def _ask(self, conn: Any, query: str) -> Any:
        was_clean = not self.dirty(conn)
        answer = super()._ask(conn, query)
        if was_clean:
            conn._result = ENDED
        return answer

    def _charset(self, conn: Any) -> list[Any]:
        return [conn.charset, conn.collation]

    def _renew(self, conn: Any) -> None:
        """Have the server make the session anew, which rolls back; then do as the driver does when it has connected."""
        conn._execute_command(RESET_CONNECTION, b"")
        conn._read_ok_packet()
        conn.set_character_set(conn.charset, conn.collation)
        if conn.db:
            conn.select_db(conn.db)
        if conn.sql_mode is not None:
            conn.query(f"SET sql_mode={conn.escape(conn.sql_mode)}")
        if conn.init_command is not None:
            conn.query(conn.init_command)
        if conn.autocommit_mode is not None:
            conn.autocommit(conn.autocommit_mode)
        self.commit(conn)  # init_command's


class MysqlclientConnector(MysqlConnector):
    """mysqlclient. It does not tell whether a transaction is open: each return costs a rollback."""

    module = "MySQLdb"

    def gone(self, conn: Any) -> Any:
        return not conn.open

    def unfit(self, conn: Any) -> Any:
        return not conn.open or conn.errno() in LOST

    def dirty(self, conn: Any) -> Any:
        return True  # with autocommit, too: a transaction may have been begun by a statement

    def is_lost(self, conn: Any) -> bool:
        return bool(conn.open and conn.errno() in LOST)

    def fileno(self, conn: Any) -> int | None:
        # Of what was lost, the library tells a number that is another's by now.
        return None if self.unfit(conn) else super().fileno(conn)

    def reset(self, conn: Any, level: str) -> Any:
        while conn.next_result() == 0:  # of several statements, or of a procedure
            conn.discard_result()
        if level == "commit":
            conn.commit()
        elif level != "none":
            conn.rollback()
        return None

    def ping(self, conn: Any) -> None:
        conn.ping()

    def _charset(self, conn: Any) -> list[Any]:
        return [conn.character_set_name()]
