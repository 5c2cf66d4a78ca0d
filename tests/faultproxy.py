"""A TCP proxy between a driver and a server that delays, slices, cuts, resets, swallows or says nothing."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

ABORTIVE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a RST
STARTUP = 8  # bytes of PostgreSQL's SSLRequest
CHUNK = 65536
PATIENCE = 10.0


class Link:
    """One client's connection: its two ends, and what goes between them."""

    def __init__(self, proxy: FaultProxy, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.socket = client.get_extra_info("socket")  # TLS that has ended does not tell it any more
        self.server: asyncio.StreamWriter | None = None
        self.swallows = proxy.swallow_new
        self.sent = 0  # bytes that the client was given
        self.used = proxy.now()

    async def pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, down: bool) -> None:
        """Carry bytes one way until the source ends; *down* is from the server to the client."""
        proxy = self.proxy
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await proxy.passable.wait()
                now, unused = proxy.now(), proxy.now() - self.used
                self.used = now
                if proxy.forgets_after is not None and unused > proxy.forgets_after:
                    self.swallows = True
                if self.swallows:
                    continue
                if proxy.delay or proxy.jitter:
                    await asyncio.sleep(proxy.delay + random.random() * proxy.jitter)
                if down and proxy.limit is not None:
                    data = data[: max(0, proxy.limit - self.sent)]
                for piece in proxy.pieces(data):
                    target.write(piece)
                    await target.drain()
                if down:
                    self.sent += len(data)
                    if proxy.limit is not None and self.sent >= proxy.limit:
                        break
        if not self.swallows:  # what is swallowed never hears of an end
            self.end()

    def end(self) -> None:
        """Close both ends in order."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """Close both ends; the client is sent a RST."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
        self.client.transport.abort()
        if self.server is not None:
            self.server.transport.abort()


class FaultProxy:
    """Listens on 127.0.0.1:`port` and carries what comes to `target`; the knobs may be turned at any time.

    As a context manager it runs in a thread of its own. The knobs are plain attributes: `delay` and `jitter` (seconds
    for each piece of data, both ways), `slice_to` (bytes a write), `limit` (bytes a client is given before the end of
    its connection), `silent` (connections are accepted and nothing more), `swallow_new` (new connections are black
    holes), `forgets_after` (seconds unused after which a connection is swallowed, as a NAT does), `tls` (a server
    context: PostgreSQL's SSLRequest is answered here) and `answer` (bytes sent to each new client in place of the
    server).
    """

    def __init__(self, target: tuple[str, int] | str, *, tls: ssl.SSLContext | None = None) -> None:
        self.target = target  # host and port, or the path of a Unix socket
        self.tls = tls
        self.delay = self.jitter = 0.0
        self.slice_to: int | None = None
        self.limit: int | None = None
        self.answer: bytes | None = None
        self.silent = self.swallow_new = False
        self.forgets_after: float | None = None
        self.accepted = 0  # connections, ever
        self.links: set[Link] = set()
        self.port = 0
        self._held: list[socket.socket] = []  # accepted, and not served: not yet, or in silence
        self._tasks: set[asyncio.Task[None]] = set()  # a loop keeps only weak references to them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._listener: socket.socket | None = None

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    # What a test asks for.

    def refuse(self) -> None:
        """Take no more connections: the port answers with a RST. Those there are go on."""
        self._call(self._shut())

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._call(self._open())

    def reset(self) -> None:
        """Send a RST to every client."""
        self._do(lambda link: link.reset())

    def black_hole(self) -> None:
        """From now on nothing passes, for connections old and new, and nobody is told."""
        self.swallow_new = True
        self._do(lambda link: setattr(link, "swallows", True))

    def heal(self) -> None:
        """Pass new connections through, whole and at once. The old ones keep what befell them."""
        self.delay = self.jitter = 0.0
        self.slice_to = self.limit = self.answer = self.forgets_after = None
        self.silent = self.swallow_new = False
        self.resume()

    def stall(self) -> None:
        """Hold back what is sent, as a network does whose packets are to be sent again."""
        self._soon(self.passable.clear)

    def resume(self) -> None:
        """Pass on what was held back."""
        self._soon(self.passable.set)

    # In the loop's thread.

    def now(self) -> float:
        return self._loop.time()

    def pieces(self, data: bytes) -> list[bytes]:
        size = self.slice_to or max(len(data), 1)
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.passable = asyncio.Event()
        self.passable.set()
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _soon(self, work: Callable[[], None]) -> None:
        async def do() -> None:
            work()

        self._call(do())

    def _do(self, work: Callable[[Link], None]) -> None:
        self._soon(lambda: [work(link) for link in list(self.links)] and None)

    async def _open(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    async def _shut(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _end(self) -> None:
        await self._shut()
        for link in list(self.links):
            link.reset()
        for sock in self._held:
            sock.close()
        mine = asyncio.current_task()
        others = [task for task in self._tasks if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone again
            return
        self.accepted += 1
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held.append(client)
        if not self.silent:
            self._keep(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        self._held.remove(client)  # not before: a task may be cancelled before it begins
        with suppress(OSError, EOFError):
            tls = await self._handshake(client) if self.tls else None
            reader, writer = await self._streams(client, tls)
            await self._carry(Link(self, writer), reader)

    async def _handshake(self, client: socket.socket) -> ssl.SSLContext | None:
        await self._loop.sock_recv(client, STARTUP)
        await self._loop.sock_sendall(client, b"S")
        return self.tls

    async def _streams(
        self, client: socket.socket, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=tls)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _carry(self, link: Link, reader: asyncio.StreamReader) -> None:
        self.links.add(link)
        try:
            if self.answer is not None:
                link.client.write(self.answer)
                await reader.read(CHUNK)
                return
            if isinstance(self.target, str):
                from_server, link.server = await asyncio.open_unix_connection(self.target)
            else:
                from_server, link.server = await asyncio.open_connection(*self.target)
            await asyncio.gather(
                link.pump(reader, link.server, down=False), link.pump(from_server, link.client, down=True)
            )
        finally:
            link.end()
            self.links.discard(link)
