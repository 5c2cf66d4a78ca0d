"""After a fork: the child's pools begin anew, and the parent's connections are kept from its doing.

Both processes have the same sockets. A child that closes a connection, or lets it be freed, has its driver take leave
of the server (libpq sends Terminate), which ends the parent's session. So the child's copy of each descriptor is
replaced by one of the null device, and the object is kept for ever.
"""

from __future__ import annotations

import os
from typing import Any, Optional
from weakref import WeakSet

Socket = Optional[tuple[int, int, int]]  # a descriptor, and the device and inode that it had when it was opened
_pools: WeakSet[Any] = WeakSet()
_kept: list[Any] = []  # the parent's connections
_held: list[Any] = []  # while this process is forked: those that its threads may have alone
_watching = False


def watch(pool: Any) -> None:
    """Have *pool* renewed in each child process; it is known weakly. (A Limiter, too.)"""
    global _watching
    _pools.add(pool)
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(before=_hold_all, after_in_parent=_held.clear, after_in_child=_renew_all)


def watched() -> list[Any]:
    """Return the pools of this process that are alive."""
    return [pool for pool in _all() if hasattr(pool, "_state")]


def _all() -> list[Any]:
    for _ in range(100):
        try:
            return list(_pools)
        except RuntimeError:  # one was made meanwhile
            pass
    return list(_pools)


def _hold_all() -> None:
    """The child frees what other threads have for themselves before it asks anybody: that must not close anything."""
    for pool in watched():
        _held.extend([entry() for entry in list(pool._entries.values())])


def _renew_all() -> None:
    _kept.extend(_held)
    _held.clear()
    for pool in _all():
        pool._renew_after_fork()


def socket_of(descriptor: int | None) -> Socket:
    """Return what tells that a descriptor is still the same socket later."""
    if descriptor is None:
        return None
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return descriptor, found.st_dev, found.st_ino


def set_aside(conn: Any, socket: Socket) -> None:
    """Keep one of the parent's connections, and cut it off: whatever is done with it now does not reach the server."""
    _kept.append(conn)
    if socket is not None and socket_of(socket[0]) == socket:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, socket[0], inheritable=False)
        os.close(null)


def is_set_aside(conn: Any) -> bool:
    """True for a connection that was the parent's when this process was forked."""
    return any(conn is kept for kept in _kept)
