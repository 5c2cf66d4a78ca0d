"""Sockets for threads: TCP, TLS and Unix. One with something to read, or closed, is neither pooled nor handed out."""
# mypy: disable-error-code="override"
# (The arguments of connect are the connector's own.)

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Callable

from dbpool.connectors.base import Connector
from dbpool.connectors.peers import (
    Deadline,
    Peer,
    Ping,
    Socket,
    TcpPeer,
    UnixPeer,
    breaks_off,
    explained,
    limit_of,
    meaning,
    named,
    pair_of,
)
from dbpool.watch import is_hung_up, is_readable

if TYPE_CHECKING:
    import os
    import ssl


class SocketConnector(Connector):
    """What the connectors below have in common: one peer, and how its sockets are judged."""

    levels = frozenset(("rollback", "commit", "clean"))  # all the same, but that "clean" sets the time-out back
    attributes = ("timeout",)
    hangs = False

    def __init__(
        self, peer: Peer, connect_timeout: float | None, timeout: float | None, ping: Ping,
        reset: Callable[[Any], Any] | None,
    ) -> None:  # fmt: skip
        pair = pair_of(ping)
        super().__init__(reset=reset, ping=ping if pair is None else Exchange(*pair))  # type: ignore[arg-type]
        self._peer = peer
        self._limit = limit_of("connect_timeout", connect_timeout)
        self._timeout = limit_of("timeout", timeout)

    def connect(self) -> socket.socket:
        """Open a connection: to the first of the peer's addresses that answers."""
        deadline = Deadline(self._limit)
        conn = self._secured(self._dialled(deadline), deadline)
        conn.settimeout(self._timeout)
        return conn

    def _dialled(self, deadline: Deadline) -> socket.socket:
        found = self._peer.addresses()
        for number, (family, kind, protocol, address) in enumerate(found, start=1):
            sock = Socket(family, kind, protocol)
            try:
                sock.settimeout(deadline.left(self._peer, among=len(found) - number + 1))
                sock.connect(address)
                self._peer.tune(sock)
                return sock
            except BaseException as exc:
                sock.close()
                if number < len(found) and isinstance(exc, OSError):
                    continue
                if isinstance(exc, socket.timeout) and exc.errno is None:
                    raise deadline.passed(self._peer) from exc
                if isinstance(exc, OSError):
                    named(exc, self._peer)
                raise
        raise AssertionError("a name has at least one address, else it raises")

    def _secured(self, sock: socket.socket, deadline: Deadline) -> socket.socket:
        """Return what the user is given."""
        return sock

    # ---- the looks --------------------------------------------------------------------------------------------------

    def unfit(self, conn: Any) -> Any:
        descriptor = conn.fileno()
        return descriptor < 0 or is_readable(descriptor)

    def dirty(self, conn: Any) -> Any:
        return self._reset is not None or self.unfit(conn)

    def is_lost(self, conn: Any) -> bool:
        descriptor = conn.fileno()
        return descriptor >= 0 and is_hung_up(descriptor)

    def is_spoilt(self, conn: Any, error: BaseException) -> bool:
        return breaks_off(error)

    def refusal(self, error: BaseException) -> str | None:
        return meaning(error)

    # ---- what is done -----------------------------------------------------------------------------------------------

    def reset(self, conn: Any, level: str) -> Any:
        if self.is_lost(conn):
            raise ConnectionError("the peer has closed it")
        return super().reset(conn, level)  # what is still there to read, is_clean() finds

    def restore(self, conn: Any, marks: Any) -> None:
        conn.settimeout(marks)

    def close(self, conn: Any) -> None:
        try:
            conn.shutdown(socket.SHUT_RDWR)  # a thread that waits for an answer would not notice that it is closed
        except OSError:  # not connected any more
            pass
        conn.close()


class TcpConnector(SocketConnector):
    """TCP connections to one host and port, over IPv4 or IPv6: each address of the host is tried in turn.

    Parameters: *connect_timeout*, seconds for all addresses together; *timeout*, the new socket's own (``settimeout``);
    *nodelay*; *keepalive*, True for the system's own times, or seconds of silence after which the peer is asked;
    *ping*, a pair of bytes to send and to expect, or a function that is given the socket; *reset*, a function that is
    given the socket when it comes back. None of the seconds: without end.
    """

    def __init__(
        self, host: str, port: int, *, connect_timeout: float | None = 10.0, timeout: float | None = None,
        nodelay: bool = True, keepalive: bool | float = True, ping: Ping = None,
        reset: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(TcpPeer(host, port, nodelay, keepalive), connect_timeout, timeout, ping, reset)


class TlsConnector(TcpConnector):
    """TLS connections: TcpConnector's parameters, and those of TLS.

    *context* is an SSLContext; by default one that verifies the certificate and the host's name by the system's
    authorities. *server_hostname* is the name that is asked for and verified; by default the host.
    """

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None = None, server_hostname: str | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(host, port, **options)
        self._context, self._name = context_of(context), name_of(server_hostname, host)

    def _secured(self, sock: socket.socket, deadline: Deadline) -> socket.socket:
        try:
            sock.settimeout(deadline.left(self._peer))
            return self._context.wrap_socket(sock, server_hostname=self._name)
        except socket.timeout as exc:
            raise deadline.passed(self._peer) from exc
        except OSError as exc:
            explained(exc, self._peer)
            raise
        finally:
            sock.close()  # if the other has not taken its place

    def unfit(self, conn: Any) -> Any:
        try:
            return bool(conn.pending()) or (super().unfit(conn) and self._has_something(conn))
        except (OSError, ValueError):
            return True

    def _has_something(self, conn: Any) -> bool:
        """True if there is more to read than TLS has for itself, as the tickets that servers send after a handshake."""
        if conn.fileno() < 0:
            return True
        from ssl import SSLWantReadError, SSLWantWriteError

        timeout = conn.gettimeout()
        conn.settimeout(0)
        try:
            conn.recv(1)  # what this takes is lost to nobody: the connection is closed for it
        except (SSLWantReadError, SSLWantWriteError):
            return False
        finally:
            conn.settimeout(timeout)
        return True

    def close(self, conn: Any) -> None:
        try:
            conn.settimeout(0)
            conn.unwrap()  # says farewell, and does not wait for an answer
        except (OSError, ValueError):
            pass
        super().close(conn)


class UnixConnector(SocketConnector):
    """Connections to the Unix socket at *path*. The other parameters are TcpConnector's."""

    def __init__(
        self, path: str | bytes | os.PathLike[Any], *, connect_timeout: float | None = 10.0,
        timeout: float | None = None, ping: Ping = None, reset: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(UnixPeer(path), connect_timeout, timeout, ping, reset)


class Exchange:
    """A ping: sends bytes, and insists on the answer. Neither is in its errors: there may be a password among them."""

    def __init__(self, sent: bytes, expected: bytes) -> None:
        self._sent, self._expected = sent, expected

    def __call__(self, conn: Any) -> None:
        conn.sendall(self._sent)
        answer = b""
        while len(answer) < len(self._expected):
            part = conn.recv(len(self._expected) - len(answer))
            if not part:
                raise ConnectionError("the peer has closed the connection instead of answering a ping")
            answer += part
        if answer != self._expected:
            raise ConnectionError("the peer has answered a ping with something else")


def context_of(context: Any) -> ssl.SSLContext:
    """Return *context* if it can be one for TLS; by default one that verifies."""
    import ssl

    if context is None:
        return ssl.create_default_context()
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"context must be an ssl.SSLContext, not a {type(context).__name__}")
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("context is for servers (ssl.PROTOCOL_TLS_SERVER): use ssl.create_default_context()")
    return context


def name_of(server_hostname: Any, host: str) -> str:
    """Return the name that a certificate is asked for, and verified with."""
    if server_hostname is None:
        return host
    if not isinstance(server_hostname, str):
        raise TypeError(f"server_hostname must be a name, not a {type(server_hostname).__name__}")
    if not server_hostname:
        raise ValueError("server_hostname must not be empty: to verify no name, set context.check_hostname = False")
    return server_hostname
