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
        seconds = uptime() - entry.since
        text = (
            f"pool {state.name!r}: a connection was dropped without putconn, "
            f"{seconds:.1f} s after {pool._who.named(entry.holder)} got it{holders.traced(entry.site)}"
        )
        with pool._lock:
            state.tally.last_leak = uptime(), text, entry.site
            state.tally.leaked_at(entry.site, uptime())
        logs.warning("%s", text, of=pool, event="leak", reason="dropped", seconds=seconds, site=entry.site)
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
            (user,) = holders.users([holders.row(entry)], now, pool._who)
            with pool._lock:
                state.tally.long_leases += 1
                state.tally.leaked_at(user.site or user.at, now)
            text = "pool %s: a connection is held for longer than leak_threshold: by %s"
            more = {"reason": "held", "seconds": held, "site": entry.site}
            logs.warning(text, repr(state.name), user, of=pool, event="leak", **more)
            tell(pool._listener, "leaked", pool, user)


def _unraisable(exc: BaseException) -> None:
    """Report *exc* as CPython reports what a finalizer raises."""

    class _Reporter:
        def __del__(self) -> None:
            raise exc

    _Reporter()
