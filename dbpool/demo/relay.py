"""Relay: stands between a pool and a server that is not ours to stop; it can refuse, cut and freeze what it carries."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Union

Address = Union[str, tuple[str, int]]  # the path of a Unix socket, or a host and a port
CHUNK = 65536


class Relay:
    """Listens on a port of this machine, and carries bytes to and from *target*."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._links: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self.port = 0
        self.up()

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), name="relay", daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and cut those that there are."""
        listener, self._listener = self._listener, None
        for each in (listener, *list(self._links)):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._links.clear()

    def freeze(self) -> None:
        """Carry nothing, but keep all connections."""
        self._flows.clear()

    def thaw(self) -> None:
        """Carry on."""
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it is down
                return
            try:
                server = connected(self._target)
            except OSError:
                client.close()
                continue
            self._links.update((client, server))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=ends, name="relay", daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                target.sendall(data)
        for each in (source, target):
            self._links.discard(each)
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def connected(target: Address) -> socket.socket:
    """Return a socket to *target*."""
    if not isinstance(target, str):
        return socket.create_connection(target)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


def server_of(conn: object) -> Address:
    """Return where the server of a psycopg2 connection listens."""
    info = getattr(conn, "info")  # noqa: B009
    host = info.host or "localhost"
    return os.path.join(host, f".s.PGSQL.{info.port}") if host.startswith(("/", "@")) else (host, int(info.port))
