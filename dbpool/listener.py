"""PoolListener: what a pool tells as it happens. A listener that raises is logged and cannot break the pool."""

from __future__ import annotations

from typing import Any

from dbpool import logs


class PoolListener:
    """Override what you want to hear of. Called without a lock held, in the thread where it happened."""

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        """A connection was opened, in so many *seconds*."""

    def connect_failed(self, pool: Any, error: BaseException) -> None:
        """Opening one failed."""

    def acquired(self, pool: Any, conn: Any) -> None:
        """A caller was given *conn*."""

    def waited(self, pool: Any, seconds: float) -> None:
        """A caller had to wait for what it was given."""

    def timed_out(self, pool: Any, seconds: float) -> None:
        """A caller got nothing."""

    def released(self, pool: Any, conn: Any, seconds: float) -> None:
        """A caller gave *conn* back after so many *seconds*."""

    def leaked(self, pool: Any, user: Any) -> None:
        """A connection is held for longer than leak_threshold; *user* is the PoolUser who holds it."""

    def discarded(self, pool: Any, reason: str) -> None:
        """A connection was closed, and why."""

    def closed(self, pool: Any) -> None:
        """The pool was closed."""


def tell(listener: PoolListener | None, event: str, *args: Any) -> None:
    """Call *listener*'s method *event*, if there is a listener; log what it raises."""
    if listener is not None:
        try:
            getattr(listener, event)(*args)
        except Exception:
            logs.exception("the listener's %s() raised", event)
