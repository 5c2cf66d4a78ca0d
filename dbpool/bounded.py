"""Deadlines for what may hang: a ping, a rollback, a reset, a close.

A call on a connection whose descriptor is known runs in the caller; at the deadline the socket is shut down, and the
driver's call fails at once. Any other runs in a thread, and is left behind there.
"""

from __future__ import annotations

import os
import stat
from _socket import SHUT_RDWR, socket
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING, Any, Callable

from dbpool.housekeeper import housekeeper

if TYPE_CHECKING:
    from dbpool.connectors.base import Connector


class Overdue(TimeoutError):
    """A call did not end by its deadline."""


class Bounds:
    """Runs calls on connections, each with a deadline of *seconds* (None: without).

    Without *background* nobody could end a call: then there is no deadline. Without *threads* each call stays in its
    caller's thread: then there is none for a connection whose descriptor is not known.
    """

    def __init__(self, seconds: float | None, background: bool, threads: bool = True) -> None:
        self._seconds = seconds
        self._background = background
        self._threads = background and threads

    def run(
        self, connector: Connector, conn: Any, call: Callable[..., Any], *args: Any, seconds: float | None = None
    ) -> Any:
        """Return what ``call(*args)`` does; raise Overdue if it took longer than *seconds*, or than is configured."""
        limits = [limit for limit in (seconds, self._seconds) if limit is not None]
        if not limits or not self._background:
            return call(*args)
        descriptor = connector.fileno(conn)
        # The housekeeper, which runs whatever finalizer the garbage collector gives it, cannot end a call of its own.
        copies = [] if descriptor is None or housekeeper.is_this_thread() else duplicated(descriptor)
        if copies:
            return _shut_down(copies[0], max(0.0, min(limits)), call, args)
        if self._threads and (connector.hangs or descriptor is not None):
            return _left_behind(max(0.0, min(limits)), call, args)
        return call(*args)


def _shut_down(copy: _Copy, seconds: float, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    deadline = housekeeper.begin(seconds, copy.end)
    if deadline is None:
        copy.close()
        return call(*args)
    passed = True
    try:
        try:
            returned = call(*args)
        finally:
            passed = not housekeeper.cancel(deadline)
            if not passed:
                copy.close()
    except Exception as exc:
        if passed:
            raise Overdue(f"no answer within {seconds:g} s") from exc
        raise
    if passed:
        raise Overdue(f"no answer within {seconds:g} s")
    return returned


class _Copy(socket):
    """A duplicate of a connection's descriptor. At the deadline the original's number may be a stranger's already."""

    __slots__ = ()

    def end(self) -> None:
        """Shut the connection down, and close the duplicate: only one thread ever does."""
        try:
            self.shutdown(SHUT_RDWR)
        except OSError:  # closed, or not connected any more
            pass
        self.close()


def duplicated(descriptor: int) -> list[Any]:
    """Return a duplicate, in a list; none if the descriptor is no socket's.

    os.dup and what owns its result run within one step of the interpreter, so that no interrupt can lose it.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return []
        return [*map(_Copy, (-1,), (-1,), (-1,), map(os.dup, (descriptor,)))]
    except OSError:
        return []


def cut(descriptor: int | None) -> None:
    """Shut a connection down: what another thread does with it fails at once."""
    for copy in [] if descriptor is None else duplicated(descriptor):
        copy.end()


def _left_behind(seconds: float, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    done = allocate_lock()
    done.acquire()
    returned: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call(*args))
        except BaseException as exc:
            raised.append(exc)
        finally:
            done.release()

    try:
        start_new_thread(run, ())
    except RuntimeError:  # no thread to be had
        return call(*args)
    if not done.acquire(True, seconds):
        raise Overdue(f"no answer within {seconds:g} s")
    if raised:
        try:
            raise raised.pop()
        finally:
            raised.clear()
    return returned.pop()
