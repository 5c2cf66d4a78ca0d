"""Connections over socket pairs: the test holds the other end, and is the server."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dbpool import Connector

if TYPE_CHECKING:
    from collections.abc import Iterator


class Line:
    """A connection; `peer` is the server's end of it."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.rollbacks = self.closes = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def ask(self) -> None:
        """Wait for a word of the server's, as a round trip does."""
        if not self.socket.recv(1):
            raise ConnectionError("server closed the connection")

    def rollback(self) -> None:
        self.rollbacks += 1

    def close(self) -> None:
        self.closes += 1
        self.socket.close()

    def end(self) -> None:
        """Close both ends."""
        with suppress(OSError):
            self.socket.close()
        with suppress(OSError):
            self.peer.close()


class LineConnector(Connector):
    """Opens Lines, and remembers them. A Line is never dirty; a ping waits for one byte of the server's."""

    def __init__(self) -> None:
        super().__init__(self._open)
        self.lines: list[Line] = []

    def _open(self) -> Line:
        line = Line()
        self.lines.append(line)
        return line

    def ping(self, conn: Any) -> None:
        conn.ask()

    def rollback(self, conn: Any) -> None:
        conn.rollback()

    def unfit(self, conn: Any) -> Any:
        return conn.fileno() < 0

    @property
    def open(self) -> list[Line]:
        return [line for line in self.lines if line.fileno() >= 0]

    def ended(self) -> Iterator[LineConnector]:
        """A fixture's body: close what is left open."""
        yield self
        for line in self.lines:
            line.end()


def descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))
