"""Tells of connections that were dropped without putconn: a log line, a listener's event, a ResourceWarning."""

from __future__ import annotations

import warnings
from time import monotonic
from typing import TYPE_CHECKING, Any

from dbpool import logs
from dbpool.listener import tell

if TYPE_CHECKING:
    from dbpool.state import PoolState


def tell_leaks(pool: Any, state: PoolState, listener: Any) -> None:
    """Tell of every leak that was found since the last time."""
    while state.leaked:
        try:
            entry = state.leaked.popleft()
        except IndexError:  # another thread tells of it
            return
        text = (
            f"pool {state.name!r}: a connection was dropped without putconn, "
            f"{monotonic() - entry.since:.1f} s after thread {entry.holder} got it"
        )
        logs.warning(text)
        tell(listener, "discarded", pool, "dropped")
        try:
            warnings.warn(text, ResourceWarning, stacklevel=2)
        except ResourceWarning as exc:  # made an error: not in the face of a bystander
            _unraisable(exc)


def _unraisable(exc: BaseException) -> None:
    """Report *exc* as CPython reports what a finalizer raises."""

    class _Reporter:
        def __del__(self) -> None:
            raise exc

    _Reporter()
