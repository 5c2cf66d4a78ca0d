"""Tells of connections that were dropped without putconn, or are held for too long."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from dbpool import holders, logs
from dbpool.clock import uptime
from dbpool.housekeeper import housekeeper
from dbpool.listener import tell

if TYPE_CHECKING:
    from dbpool.config import PoolConfig
    from dbpool.state import PoolState


def tell_leaks(pool: Any, state: PoolState, listener: Any) -> None:
    """Tell of every connection that was found dropped since the last time: a log line, an event, a ResourceWarning."""
    while state.leaked:
        try:
            entry = state.leaked.popleft()
        except IndexError:  # another thread tells of it
            return
        text = (
            f"pool {state.name!r}: a connection was dropped without putconn, "
            f"{uptime() - entry.since:.1f} s after thread {entry.holder} got it{holders.traced(entry.site)}"
        )
        logs.warning(text)
        tell(listener, "discarded", pool, "dropped")
        try:
            warnings.warn(text, ResourceWarning, stacklevel=2)
        except ResourceWarning as exc:  # made an error: not in the face of a bystander
            _unraisable(exc)


def tell_long_leases(pool: Any, state: PoolState, config: PoolConfig) -> None:
    """Tell of every lease that is held longer than leak_threshold, once: a log line and an event."""
    if config.leak_threshold is None:
        return
    now = uptime()
    for entry in holders.entries(state):
        held = now - entry.since - housekeeper.stood_still_since(entry.since)
        if held >= config.leak_threshold and entry.told != entry.uses:
            entry.told = entry.uses
            (user,) = holders.users([holders.row(entry)], now)
            logs.warning("pool %r: a connection is held for longer than leak_threshold: by %s", state.name, user)
            tell(config.listener, "leaked", pool, user)


def _unraisable(exc: BaseException) -> None:
    """Report *exc* as CPython reports what a finalizer raises."""

    class _Reporter:
        def __del__(self) -> None:
            raise exc

    _Reporter()
