"""Session: a few connections to a server and the questions put to it, each bounded in time, and all together."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbpool.bounded import Bounds, Overdue
from dbpool.config import PoolConfig
from dbpool.connectors.base import find
from dbpool.connectors.libpq import LibpqConnector
from dbpool.errors import PoolError
from dbpool.listener import PoolListener
from dbpool.masking import mask_error
from dbpool.pool import ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbpool.check.source import Source

NAME = "dbpool check"  # what the sessions are called in pg_stat_activity
ALL_TOGETHER = 4  # times the seconds for one


class Unreachable(Exception):
    """The server cannot be reached, or does not answer; the text says why, and shows no password."""


class Stopwatch(PoolListener):
    """Notes how long each connection took to open."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        self.seconds.append(seconds)


class Session:
    """Opens connections to *source* and asks. One call may take so many *seconds*. Raises Unreachable."""

    def __init__(self, source: Source, seconds: float) -> None:
        self._source = source
        self.seconds = seconds
        self._end = time.monotonic() + ALL_TOGETHER * seconds
        self._watch = Stopwatch()
        self._pool = self._pool_of()
        self.error: Any = source.module.Error
        self.connector: Any = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.closeall()

    @property
    def connects(self) -> list[float]:
        """How long each connection took to open."""
        return self._watch.seconds

    def is_hurried(self) -> bool:
        """Tell whether half of the time is over: what is only measured to be sure is then left out."""
        return time.monotonic() > self._end - ALL_TOGETHER * self.seconds / 2

    @contextmanager
    def opened(self, **keywords: Any) -> Iterator[Any]:
        """Give a new connection to a block, and close it then; *keywords* over what the source says."""
        pool = self._pool_of(**keywords) if keywords else self._pool
        try:
            conn = pool.getconn()
        except Exception as exc:
            raise self._unreachable(exc) from None
        try:
            self.connector = find(conn)
            if isinstance(self.connector, LibpqConnector):
                conn.autocommit = True  # each question by itself, and transactions only where we begin them
            yield conn
        finally:
            pool.putconn(conn, close=True)

    def ask(self, conn: Any, query: str, seconds: float | None = None) -> Any:
        """Return the one value of a query, as text or a number. Raises the driver's Error, too."""
        return _text(self.bounded(conn, self.connector._ask, conn, query, seconds=seconds))

    def try_to_ask(self, conn: Any, query: str) -> Any:
        """Return the one value of a query; None if the server cannot tell, or may not tell us."""
        try:
            return self.ask(conn, query)
        except self.error:
            return None

    def tell(self, conn: Any, statement: str, seconds: float | None = None) -> None:
        """Execute a statement."""
        with conn.cursor() as cursor:
            self.bounded(conn, cursor.execute, statement, seconds=seconds)

    def bounded(self, conn: Any, call: Any, *args: Any, seconds: float | None = None) -> Any:
        """Return what ``call(*args)`` does with *conn*, if it ends in time."""
        limit, left = min(seconds or self.seconds, self.seconds), self._end - time.monotonic()
        try:
            if left > 0:
                return Bounds(min(limit, left), True).run(self.connector, conn, call, *args)
        except Overdue:
            if limit <= left:
                raise Unreachable(f"it let us in, and then did not answer within {limit:g} s") from None
        raise Unreachable(f"it is too slow: not all that is asked was answered in {ALL_TOGETHER * self.seconds:g} s")

    def _pool_of(self, **keywords: Any) -> ThreadedConnectionPool[Any]:
        # idle_timeout=0: what is put back is closed, and each getconn connects. timeout=0: who is refused is told so.
        config = PoolConfig(
            name="check", timeout=0, idle_timeout=0, reset="none", listener=None if keywords else self._watch,
            connect_timeout=self.seconds, check_timeout=self.seconds,
        )  # fmt: skip
        keywords = {**self._source.kwargs, **keywords}
        if self._source.args:
            keywords["application_name"] = NAME
        args, module = self._source.args, self._source.module
        return ThreadedConnectionPool(0, 3, *args, connect=module, config=config, **keywords)

    def _unreachable(self, exc: Exception) -> Unreachable:
        if isinstance(exc, TimeoutError) or (isinstance(exc, PoolError) and exc.__cause__ is None):
            return Unreachable(f"nothing was heard within {self.seconds:g} s")
        cause = exc.__cause__ if isinstance(exc, PoolError) and exc.__cause__ is not None else exc
        mask_error(cause, self._source.args, self._source.kwargs)
        return Unreachable(explained(cause))


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def explained(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
