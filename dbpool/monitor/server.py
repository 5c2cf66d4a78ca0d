"""Server: the monitor on an address of its own, on daemon threads of the standard library's server."""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dbpool import logs
from dbpool.config import count
from dbpool.monitor.guard import checked_token, is_loopback
from dbpool.monitor.handler import Handler
from dbpool.monitor.process import helping
from dbpool.monitor.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from types import TracebackType

PORT, HIGHEST_PORT = 8765, 65535
MOST_AT_ONCE = 64  # connections that are served at the same time; others wait in the system's queue
NAME = "dbpool-monitor-http"  # of the threads
POLL = 0.2  # seconds within which close() is noticed
PATIENCE = 5.0  # seconds that close() waits for the threads
_open: WeakSet[Server] = WeakSet()


class Server(ThreadingHTTPServer):
    """Serves so many at once; in a forked process it lets go of what is its parent's."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = os.name == "posix"

    def __init__(self, address: tuple[str, int], routes: Routes) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.routes = routes
        self.clients: set[socket.socket] = set()
        self.threads: set[threading.Thread] = set()
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._loop: threading.Thread | None = None
        super().__init__(address, Handler)
        _open.add(self)

    def server_bind(self) -> None:
        """Bind; HTTPServer would ask a name server for the host's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def begin(self) -> None:
        """Serve, on a thread."""
        self._loop = threading.Thread(target=self._accept, name=NAME, daemon=True)
        self._loop.start()

    def _accept(self) -> None:
        with helping():
            self.serve_forever(POLL)

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._free.acquire(timeout=POLL):
            if self.routes.sampler.closed:
                self.shutdown_request(request)
                return
        self.clients.add(request)
        thread = threading.Thread(target=self._serve, args=(request, client_address), name=NAME, daemon=True)
        self.threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # there can be none
            self._done(request, thread)
            self.shutdown_request(request)

    def _serve(self, request: Any, client_address: Any) -> None:
        with helping():
            try:
                self.process_request_thread(request, client_address)
            finally:
                self._done(request, threading.current_thread())

    def _done(self, request: Any, thread: threading.Thread) -> None:
        self.clients.discard(request)
        self.threads.discard(thread)
        self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write what went wrong; a client that has gone is nobody's fault."""
        if not isinstance(sys.exc_info()[1], OSError):
            logs.exception("monitor: a request failed")

    def end(self) -> None:
        """Serve no more; wait for the threads to end."""
        self.shutdown()
        self.server_close()
        for client in list(self.clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in [self._loop, *list(self.threads)]:
            if thread is not None and thread is not threading.current_thread():
                thread.join(PATIENCE)

    def renew_after_fork(self) -> None:
        """In a child process: nothing of it is served here."""
        for each in (self.socket, *self.clients):
            with suppress(OSError):
                each.close()


class PoolMonitor:
    """A monitor that is running. ``with pool_monitor() as monitor`` closes it at the end of the block."""

    def __init__(self, server: Server, host: str) -> None:
        self._server = server
        self._host = f"[{host}]" if ":" in host else host
        self._process = os.getpid()
        self.port: int = server.server_address[1]

    @property
    def url(self) -> str:
        """Where the page is."""
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(self._host, self._host)
        return f"http://{host}:{self.port}/"

    def close(self) -> None:
        """End it: no thread and no descriptor is left. May be called again; in a forked process it does nothing."""
        if self._process == os.getpid():
            self._server.routes.close()
            self._server.end()

    def __repr__(self) -> str:
        return f"<PoolMonitor {self.url}{' closed' * self._server.routes.sampler.closed}>"

    def __enter__(self) -> PoolMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pool_monitor(
    port: int = PORT, host: str = "127.0.0.1", *, pools: Iterable[Any] | None = None, token: str | None = None,
    actions: bool = False, workers: str | PathLike[str] | None = None, hosts: Iterable[str] = (),
) -> PoolMonitor:  # fmt: skip
    """Serve the monitor's page on *host* and *port* (0: any that is free), on threads of its own, until it is closed.

    *pools*: those that are shown; default: all that are open in the process. *token*: who asks must know it; without
    one only this machine is served. *actions*: the page may close connections, drain and resize. *workers*: a folder
    by which several processes of the machine show each other's pools. *hosts*: more names by which it may be asked.

    Raises ValueError or TypeError naming an argument that is wrong, and OSError if the port is taken.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a text, not a {type(host).__name__}")
    if not is_loopback(host) and checked_token(token) is None:
        raise ValueError(f"token is needed: host={host!r} can be reached from other machines")
    count("port", port, 0)
    if port > HIGHEST_PORT:
        raise ValueError(f"port must be at most {HIGHEST_PORT}, not {port}")
    server = Server((host, port), Routes(pools, token, actions, workers, hosts, bound=host))
    try:
        server.routes.begin()
        server.begin()
    except BaseException:
        server.routes.close()
        server.server_close()
        raise
    return PoolMonitor(server, host)


def _renew_all() -> None:
    for server in list(_open):
        server.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
