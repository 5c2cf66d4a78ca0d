"""Neighbours: asks the sockets in a folder, all at once, and reads what comes until the time is up."""

from __future__ import annotations

import json
import os
import selectors
import socket
from contextlib import suppress
from errno import ECONNREFUSED, ENOENT
from time import monotonic, time
from typing import Any, NamedTuple

STATE, HISTORY = b"state\n", b"history\n"
PATIENCE = 1.0  # seconds for all of them together
MOST_NEIGHBOURS = 256
MOST_BYTES, MOST_BYTES_OF_ALL = 16_000_000, 64_000_000
LEFT_BEHIND = 60.0  # seconds after which a socket that was never finished is removed


class Neighbour(NamedTuple):
    """A socket in the folder: the process that made it, and what it said; None: nothing, or not all in time."""

    pid: int
    said: bytes | None


class Conversation:
    """One neighbour that was asked."""

    __slots__ = ("parts", "pid", "size", "sock")

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self.parts: list[bytes] = []
        self.size = 0

    def read(self) -> bool:
        """Take what has come; tell whether that was the end."""
        part = self.sock.recv(1 << 18)
        self.parts.append(part)
        self.size += len(part)
        return not part


def ask(folder: str, question: bytes, without: int | None = None) -> list[Neighbour]:
    """Ask all sockets in *folder* but those of process *without*; remove those that nobody listens to."""
    silent, asked = [], []
    for name, pid in _names(folder):
        if pid == without:
            continue
        sock, answers = _begin(os.path.join(folder, name), question)
        if sock is not None:
            asked.append(Conversation(pid, sock))
        elif not answers:
            silent.append(Neighbour(pid, None))
    return sorted([*silent, *_hear(asked, PATIENCE)], key=lambda neighbour: neighbour.pid)


def documents(found: list[Neighbour]) -> list[dict[str, Any]]:
    """Return a document for each process; one that says so if it did not answer."""
    by_pid: dict[int, dict[str, Any]] = {}
    for neighbour in found:
        document = _read(neighbour)
        if document is not None:
            by_pid[neighbour.pid] = document
        else:  # it may have a second socket, on which it answered
            by_pid.setdefault(neighbour.pid, {"process": {"pid": neighbour.pid, "uptime": None}, "stale": True})
    return list(by_pid.values())


def _names(folder: str) -> list[tuple[str, int]]:
    """Return the sockets' names and their processes; tidy up what one left that died while it made its own."""
    found = []
    for name in sorted(os.listdir(folder)):
        pid, dash, rest = name.lstrip(".").partition("-")
        if not (dash and pid.isascii() and pid.isdigit()):
            continue
        if name.startswith("."):
            _remove_if_left(os.path.join(folder, name))
        elif rest.endswith(".sock"):
            found.append((name, int(pid)))
    return found[:MOST_NEIGHBOURS]


def _remove_if_left(path: str) -> None:
    with suppress(OSError):
        if time() - os.lstat(path).st_mtime > LEFT_BEHIND:
            os.unlink(path)


def _begin(path: str, question: bytes) -> tuple[socket.socket | None, bool]:
    """Return a socket on which *question* was asked. If there is none: whether it is gone, and need not be told of."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    failed = sock.connect_ex(path)
    if not failed:
        with suppress(OSError):
            sock.send(question)
            return sock, True
    sock.close()
    if failed == ECONNREFUSED:  # its process has ended
        with suppress(OSError):
            os.unlink(path)
    return None, failed in (ECONNREFUSED, ENOENT)


def _hear(asked: list[Conversation], seconds: float) -> list[Neighbour]:
    """Read from all until each has ended, or the time is up, or it is too much."""
    heard, left = {}, MOST_BYTES_OF_ALL
    deadline = monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for each in asked:
            selector.register(each.sock, selectors.EVENT_READ, each)
        while selector.get_map() and (rest := deadline - monotonic()) > 0:
            for key, _ in selector.select(rest):
                each = key.data
                before = each.size
                ended = _ended(each)
                left -= each.size - before
                if ended or each.size > MOST_BYTES or left < 0:
                    selector.unregister(each.sock)
                    heard[each] = b"".join(each.parts) if ended else None
                    each.parts.clear()
    for each in asked:
        each.sock.close()
    return [Neighbour(each.pid, heard.get(each)) for each in asked]


def _ended(each: Conversation) -> bool:
    try:
        return each.read()
    except BlockingIOError:
        return False
    except OSError:  # it died meanwhile: what there is will not do as a document
        return True


def _read(neighbour: Neighbour) -> dict[str, Any] | None:
    """Return the document if it is one, of that process."""
    if neighbour.said is None:
        return None
    try:
        document = json.loads(neighbour.said)
        state = document["state"]
        own = f"{neighbour.pid}-"
        pids = {state["process"]["pid"], *(pool["pid"] for pool in state["pools"])}
        pools = [str(pool["id"]) for pool in state["pools"]]
        ids = [*pools, *document.get("rows", {}), *document.get("history", {})]
        if pids == {neighbour.pid} and all(name.startswith(own) for name in ids):
            return dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None
