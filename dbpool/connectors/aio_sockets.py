"""Sockets for asyncio: TCP, TLS and Unix streams. One with something to read is neither pooled nor handed out."""
# mypy: disable-error-code="override"
# (The arguments of connect are the connector's own; what returns a value there returns an awaitable here.)

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from dbpool.connectors.aio import AsyncConnector, free
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
from dbpool.connectors.sockets import context_of, name_of
from dbpool.watch import is_hung_up, is_readable

if TYPE_CHECKING:
    import os
    import socket
    import ssl

LIMIT = 2**16  # bytes: asyncio's own


class Stream:
    """A connection: its *reader* and its *writer*. It takes attributes of the user's; dropped, it closes itself."""

    __slots__ = ("__dict__", "__weakref__", "_loop", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._loop = asyncio.get_running_loop()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 once it is closed."""
        sock = self.writer.get_extra_info("socket")
        return -1 if sock is None else sock.fileno()

    def close(self) -> None:
        """Begin to close it."""
        self.writer.close()

    def __del__(self) -> None:
        # A transport is kept alive by its loop. The garbage collector may run in another thread.
        if self.writer.is_closing():
            return
        if asyncio._get_running_loop() is self._loop:
            _abort(self.writer)
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_abort, self.writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


class StreamConnector(AsyncConnector):
    """What the connectors below have in common: one peer, and how its streams are judged."""

    levels = frozenset(("rollback", "commit", "clean"))  # all the same
    hangs = False

    def __init__(
        self, peer: Peer, connect_timeout: float | None, limit: int, ping: Ping, reset: Callable[[Any], Any] | None
    ) -> None:
        pair = pair_of(ping)
        super().__init__(reset=reset, ping=ping if pair is None else Exchange(*pair))  # type: ignore[arg-type]
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be a number of bytes, not a {type(limit).__name__}")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._peer, self._bytes = peer, limit
        self._limit = limit_of("connect_timeout", connect_timeout)

    async def connect(self) -> Stream:
        """Open a connection: to the first of the peer's addresses that answers."""
        deadline = Deadline(self._limit)
        try:
            return await asyncio.wait_for(self._dialled(deadline), self._limit)
        except (TimeoutError, asyncio.TimeoutError) as exc:
            if getattr(exc, "errno", None) is not None:
                raise
            raise deadline.passed(self._peer) from exc

    async def _dialled(self, deadline: Deadline) -> Stream:
        found = self._peer.known() or await self._asked()
        for number, address in enumerate(found, start=1):
            sock = Socket(*address[:3])
            try:
                sock.setblocking(False)
                await self._reached(sock, address[3], deadline.left(self._peer, among=len(found) - number + 1))
                break
            except BaseException as exc:
                sock.close()
                if number < len(found) and isinstance(exc, (OSError, asyncio.TimeoutError)):
                    continue
                if isinstance(exc, OSError):
                    named(exc, self._peer)
                raise
        stream = Stream(*await self._opened(sock))  # from here on the transport closes it
        self._peer.tune(sock)
        return stream

    async def _reached(self, sock: socket.socket, address: Any, seconds: float | None) -> None:
        if self._peer.instant:
            sock.connect(address)
        else:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), seconds)

    async def _asked(self) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(None, self._peer.addresses)

    async def _opened(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return what reads from and writes to a connected socket."""
        return await asyncio.open_connection(sock=sock, limit=self._bytes)

    # ---- the looks --------------------------------------------------------------------------------------------------

    def unfit(self, conn: Any) -> Any:
        reader, writer = conn.reader, conn.writer
        if writer.is_closing() or reader._buffer or reader.at_eof() or reader.exception() is not None:
            return True
        descriptor = conn.fileno()
        return descriptor < 0 or self._has_something(descriptor)

    def _has_something(self, descriptor: int) -> bool:
        """True if the loop has not read all that has come."""
        return is_readable(descriptor)

    def dirty(self, conn: Any) -> Any:
        return self._reset is not None or self.unfit(conn)

    def is_lost(self, conn: Any) -> bool:
        descriptor = conn.fileno()
        return conn.reader.at_eof() or (descriptor >= 0 and is_hung_up(descriptor))

    def is_spoilt(self, conn: Any, error: BaseException) -> bool:
        return breaks_off(error)

    def refusal(self, error: BaseException) -> str | None:
        return meaning(error)

    # ---- what is done -----------------------------------------------------------------------------------------------

    async def reset(self, conn: Any, level: str) -> Any:
        if self.is_lost(conn):
            raise ConnectionError("the peer has closed it")
        return await super().reset(conn, level)  # what is still there to read, is_clean() finds

    async def close(self, conn: Any) -> None:
        conn.writer.close()
        await conn.writer.wait_closed()

    def abandon(self, conn: Any) -> None:
        super().abandon(conn)
        if conn._loop.is_closed():
            free(conn.writer.transport)
        else:
            conn.writer.transport.abort()


class AsyncTcpConnector(StreamConnector):
    """TCP streams to one host and port, over IPv4 or IPv6: each address of the host is tried in turn.

    Parameters: *connect_timeout*, seconds for all addresses together; *nodelay*; *keepalive*, True for the system's own
    times, or seconds of silence after which the peer is asked; *ping*, a pair of bytes to send and to expect, or a
    function, plain or asynchronous, that is given the Stream; *reset*, one that is given it when it comes back;
    *limit*, the reader's, in bytes.
    """

    def __init__(
        self, host: str, port: int, *, connect_timeout: float | None = 10.0, nodelay: bool = True,
        keepalive: bool | float = True, ping: Ping = None, reset: Callable[[Any], Any] | None = None,
        limit: int = LIMIT,
    ) -> None:  # fmt: skip
        super().__init__(TcpPeer(host, port, nodelay, keepalive), connect_timeout, limit, ping, reset)


class AsyncTlsConnector(AsyncTcpConnector):
    """TLS streams: AsyncTcpConnector's parameters, and those of TLS.

    *context* is an SSLContext; by default one that verifies the certificate and the host's name by the system's
    authorities. *server_hostname* is the name that is asked for and verified; by default the host.
    """

    def __init__(
        self, host: str, port: int, *, context: ssl.SSLContext | None = None, server_hostname: str | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(host, port, **options)
        self._context, self._name = context_of(context), name_of(server_hostname, host)

    async def _opened(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(
                sock=sock, limit=self._bytes, ssl=self._context, server_hostname=self._name
            )
        except OSError as exc:
            explained(exc, self._peer)
            raise

    async def close(self, conn: Any) -> None:
        if not conn.writer.is_closing():  # twice, and 3.11 forgets what there is to abort
            conn.writer.close()  # says farewell ...
        conn.writer.transport.abort()  # ... and does not wait for an answer
        await conn.writer.wait_closed()

    def _has_something(self, descriptor: int) -> bool:
        return is_hung_up(descriptor)  # what else has come may be TLS's own; the reader has what is the user's


class AsyncUnixConnector(StreamConnector):
    """Streams to the Unix socket at *path*. The other parameters are AsyncTcpConnector's."""

    def __init__(
        self, path: str | bytes | os.PathLike[Any], *, connect_timeout: float | None = 10.0, ping: Ping = None,
        reset: Callable[[Any], Any] | None = None, limit: int = LIMIT,
    ) -> None:  # fmt: skip
        super().__init__(UnixPeer(path), connect_timeout, limit, ping, reset)

    async def _opened(self, sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(sock=sock, limit=self._bytes)


class Exchange:
    """A ping: sends bytes, and insists on the answer. Neither is in its errors: there may be a password among them."""

    def __init__(self, sent: bytes, expected: bytes) -> None:
        self._sent, self._expected = sent, expected

    async def __call__(self, conn: Any) -> None:
        conn.writer.write(self._sent)
        await conn.writer.drain()
        try:
            answer = await conn.reader.readexactly(len(self._expected))
        except asyncio.IncompleteReadError:
            raise ConnectionError("the peer has closed the connection instead of answering a ping") from None
        if answer != self._expected:
            raise ConnectionError("the peer has answered a ping with something else")
