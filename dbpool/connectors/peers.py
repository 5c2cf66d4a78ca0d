"""Peers: where a socket leads, what it is set to, and what it means that nobody is reached there."""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic
from typing import Any, Callable, Union

from dbpool.config import seconds
from dbpool.errors import PoolError

Address = tuple[int, int, int, Any]  # family, type, protocol, and what connect() takes
Ping = Union[Callable[[Any], Any], tuple[bytes, bytes], None]
# What OpenSSL makes of an answer that is not TLS; its versions differ.
NOT_TLS = ("HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "WRONG_VERSION_NUMBER")


class Socket(socket.socket):
    """socket.socket as the pool opens it: it takes attributes of the user's."""


class TcpPeer:
    """A host and a port; *nodelay* and *keepalive* are what its sockets are set to."""

    instant = False  # connecting takes time

    def __init__(self, host: str, port: int, nodelay: bool, keepalive: bool | float) -> None:
        if not isinstance(host, str):
            raise TypeError(f"host must be a name or an address, not a {type(host).__name__}")
        if not host:
            raise ValueError("host must not be empty")
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"port must be a number, not a {type(port).__name__}")
        if not 0 < port < 65536:
            raise ValueError(f"port must be between 1 and 65535, not {port}")
        if not isinstance(nodelay, bool):
            raise TypeError(f"nodelay must be True or False, not a {type(nodelay).__name__}")
        if not isinstance(keepalive, (bool, int, float)):
            raise TypeError(f"keepalive must be True, False or seconds, not a {type(keepalive).__name__}")
        if not isinstance(keepalive, bool) and not 1 <= keepalive <= 32767:  # as much as Linux takes
            raise ValueError(f"keepalive must be between 1 and 32767 seconds, not {keepalive}")
        self.host, self.port = host, port
        self._nodelay, self._keepalive = nodelay, keepalive
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def addresses(self, flags: int = 0) -> list[Address]:
        """Return the addresses of the host, in the order in which they are to be tried."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=flags)
        return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]

    def known(self) -> list[Address]:
        """Return the address if there is nobody to be asked for it."""
        try:
            return self.addresses(socket.AI_NUMERICHOST)
        except OSError:
            return []

    def tune(self, sock: socket.socket) -> None:
        """Set the options of a socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, self._nodelay)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(self._keepalive))
        idle = getattr(socket, "TCP_KEEPIDLE", None)
        if idle is not None and not isinstance(self._keepalive, bool):
            sock.setsockopt(socket.IPPROTO_TCP, idle, round(self._keepalive))


class UnixPeer:
    """The path of a Unix socket."""

    instant = True  # it listens and has room, or it does not: asyncio would wait for what never comes

    def __init__(self, path: str | bytes | os.PathLike[Any]) -> None:
        if not hasattr(socket, "AF_UNIX"):  # pragma: no cover (Windows)
            raise ValueError("path: this system has no Unix sockets")
        if not isinstance(path, (str, bytes, os.PathLike)):
            raise TypeError(f"path must be a path, not a {type(path).__name__}")
        self._path = os.fspath(path)
        if not self._path:
            raise ValueError("path must not be empty")
        self.name = os.fsdecode(self._path)

    def known(self) -> list[Address]:
        """Return the one address."""
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, self._path)]

    addresses = known

    def tune(self, sock: socket.socket) -> None:
        """Set the options of a socket: it has none."""


Peer = Union[TcpPeer, UnixPeer]


class Deadline:
    """The seconds that are left for a connect, all its steps together."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._end = None if limit is None else monotonic() + limit

    def left(self, peer: Peer, among: int = 1) -> float | None:
        """Return a part of what is left, for the first *among* so many attempts; raise TimeoutError if it is over."""
        if self._end is None:
            return None
        left = self._end - monotonic()
        if left <= 0:
            raise self.passed(peer)
        return left / among

    def passed(self, peer: Peer) -> TimeoutError:
        """Return the error that says so."""
        return TimeoutError(errno.ETIMEDOUT, f"no connection to {peer.name} within {self._limit:g} s")


def limit_of(name: str, value: Any) -> float | None:
    """Return *value* if it can be the seconds that something takes (None: without end)."""
    limit = seconds(name, value)
    if limit == 0:
        raise ValueError(f"{name} must be above 0, or None, not {value!r}")
    return limit


def pair_of(ping: Any) -> tuple[bytes, bytes] | None:
    """Return *ping* if it is what is sent and what must be answered; None if it is a function, or there is none."""
    if ping is None or callable(ping):
        return None
    if not isinstance(ping, tuple) or len(ping) != 2 or not all(isinstance(each, bytes) and each for each in ping):
        raise TypeError(f"ping must be callable, or a pair of bytes to send and to expect, not a {type(ping).__name__}")
    return ping


def named(error: Any, peer: Peer) -> None:
    """Have an error of the system's, which knows numbers only, say who was not reached."""
    if error.errno is not None and error.filename is None and not isinstance(error, socket.gaierror):
        error.filename = peer.name


def explained(error: Any, peer: Peer) -> None:
    """Have an error of a TLS handshake say with whom, and if the answer was none of TLS."""
    text = f"no TLS with {peer.name}: {error.strerror or error}"
    if getattr(error, "reason", None) in NOT_TLS:
        text += " (it does not speak TLS on this port)"
    error.args, error.strerror = (error.errno, text), text


def meaning(error: BaseException) -> str | None:
    """Say what a failed connect means: what Connector.refusal() returns."""
    if isinstance(error, PoolError) or not isinstance(error, OSError):
        return None
    if isinstance(error, socket.gaierror):
        return "transient" if error.errno == socket.EAI_AGAIN else "permanent"
    # A handshake that is broken off can be a restart. What else is wrong with one stays so: a certificate, a version.
    is_of_tls = hasattr(error, "library") and hasattr(error, "reason")
    if isinstance(error, PermissionError) or (is_of_tls and "EOF" not in type(error).__name__):
        return "permanent"
    return "transient"


def breaks_off(error: BaseException) -> bool:
    """True if *error*, which has left a with block, may have left half a conversation behind."""
    import sys

    late = getattr(sys.modules.get("asyncio"), "TimeoutError", TimeoutError)  # before 3.11 a class of its own
    return not isinstance(error, Exception) or isinstance(error, (OSError, EOFError, late))
