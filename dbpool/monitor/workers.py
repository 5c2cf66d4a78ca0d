"""Workers: processes of one machine that tell each other what their pools do, through a folder of Unix sockets.

Each process answers on a socket of its own in the folder; whichever is asked for the page asks the others and merges.
The folder is its owner's alone (0700), and so are the sockets in it (0600): who can write there can be believed.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import socket
import stat
import threading
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any, Callable
from weakref import WeakSet

from dbpool.monitor.merging import merged
from dbpool.monitor.neighbours import HISTORY, STATE, ask, documents
from dbpool.monitor.process import helping

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["Workers", "merged"]

log = logging.getLogger("dbpool")
Answer = Callable[[bool], "dict[str, Any]"]
LONGEST_FOLDER = 78  # bytes: a socket's path has at most 104, on some systems, and its name takes the rest
SLOW = 2.0  # seconds that a neighbour has to read what it asked for
AT_ONCE = 8  # neighbours that are answered at the same time

_started: WeakSet[Workers] = WeakSet()
_hooked = False


class Workers:
    """The processes that share *folder*; *answer* gives the document of this one, with its history if told so.

    Raises ValueError if the folder cannot be made, or could be written to by others.
    """

    def __init__(self, folder: str | PathLike[str], answer: Answer) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise ValueError("workers: this system has no Unix sockets")  # pragma: no cover (Windows)
        self._folder = checked(os.path.abspath(os.fspath(folder)))
        self._answer = answer
        self._own: Answering | None = None
        self._lock = threading.Lock()  # guards _own

    def start(self) -> None:
        """Begin to answer the others; in each process that is forked from this one, too. Raises OSError."""
        with self._lock:
            if self._own is None:
                self._own = Answering(checked(self._folder), self._answer)
        _started.add(self)
        _hook()

    def others(self, history: bool = False) -> list[dict[str, Any]]:
        """Return what the other processes say of themselves; it takes about a second at most.

        A socket that nobody listens to is removed. Who does not answer in time is told of as stale.
        """
        with suppress(ValueError, OSError):  # the folder is gone, or is no longer ours alone
            return documents(ask(checked(self._folder), HISTORY if history else STATE, without=os.getpid()))
        return []

    def close(self) -> None:
        """Answer no more, and remove the socket."""
        with self._lock:
            own, self._own = self._own, None
        _started.discard(self)
        if own is not None:
            own.close()

    def _renew_after_fork(self) -> None:
        """The child has a copy of the socket, which is the parent's, and no thread: it begins anew."""
        own, self._own, self._lock = self._own, None, threading.Lock()
        if own is not None:
            own.forget()
            try:
                self.start()
            except (OSError, ValueError, RuntimeError) as exc:  # the program goes on; it is only not seen
                log.warning("monitor: a forked process cannot answer the others: %s", exc)


class Answering:
    """The socket of this process, and the thread that answers on it."""

    def __init__(self, folder: str, answer: Answer) -> None:
        self._path = os.path.join(folder, f"{os.getpid()}-{secrets.token_hex(4)}.sock")
        self._answer = answer
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._asking: set[socket.socket] = set()
        self._closed = False
        self._socket = listening(self._path)
        threading.Thread(target=self._accept, name="dbpool-workers", daemon=True).start()

    def close(self) -> None:
        """Remove the socket, and end the thread."""
        self._closed = True
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's, without ending it."""
        for inherited in (self._socket, *self._asking):
            with suppress(OSError):
                inherited.close()

    @helping()
    def _accept(self) -> None:
        while not self._closed:
            try:
                asking, _ = self._socket.accept()
            except OSError:
                if self._is_over():
                    return
                sleep(1.0)  # no descriptor is left, for one
                continue
            self._free.acquire()
            self._asking.add(asking)
            try:
                threading.Thread(target=self._reply, args=(asking,), name="dbpool-workers", daemon=True).start()
            except RuntimeError:  # no thread is left
                self._reply(asking)

    def _is_over(self) -> bool:
        return self._closed or self._socket.fileno() < 0

    @helping()
    def _reply(self, asking: socket.socket) -> None:
        try:
            asking.settimeout(SLOW)
            document = self._answer(asking.recv(16) == HISTORY)
            asking.sendall(json.dumps(document, separators=(",", ":")).encode())
            asking.shutdown(socket.SHUT_WR)  # the end is seen even if a child, forked just now, has a copy
        except Exception as exc:  # the other sees that there is no answer
            log.debug("monitor: a neighbour was not answered: %s", exc)
        finally:
            self._asking.discard(asking)
            asking.close()
            self._free.release()


def listening(path: str) -> socket.socket:
    """Return a socket that listens at *path*, which is there only once somebody listens."""
    folder, name = os.path.split(path)
    hidden = os.path.join(folder, f".{name[:-5]}.new")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(hidden)
        os.chmod(hidden, 0o600)
        made.listen(2 * AT_ONCE)
        os.rename(hidden, path)
    except BaseException:
        made.close()
        with suppress(OSError):
            os.unlink(hidden)
        raise
    return made


def checked(folder: str) -> str:
    """Return *folder*, made if it is missing; raise ValueError if somebody else could write or look into it."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise ValueError(f"workers: the path {folder!r} is too long for sockets, at most {LONGEST_FOLDER} bytes")
    try:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        found = os.lstat(folder)
    except OSError as exc:
        raise ValueError(f"workers: {folder!r} cannot be used: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"workers: {folder!r} is not a folder")
    if found.st_uid != os.geteuid():
        raise ValueError(f"workers: {folder!r} belongs to user {found.st_uid}, not to {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ValueError(f"workers: {folder!r} is open to others: chmod 700")
    return folder


def _hook() -> None:
    """Be told, from the first start on, of forks and of the end of the process."""
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_renew_all)
        atexit.register(_close_all)


def _renew_all() -> None:
    for workers in list(_started):
        workers._renew_after_fork()


def _close_all() -> None:
    for workers in list(_started):
        workers.close()
