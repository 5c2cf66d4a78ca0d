"""Servers over real sockets, on a thread: one that echoes, and whose every connection the test can end as it likes."""

from __future__ import annotations

import shutil
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from servers import require_or_skip

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

HERE = "127.0.0.1"
GREETING_OF_OTHERS = b"HTTP/1.0 400 Bad Request\r\n\r\n"


class Host:
    """Listens at once; `accepted` are its ends of the connections, oldest first. Each line that it hears it repeats.

    *context*: it speaks TLS. *says*: it says this to whoever comes, and nothing else. *listens* False: it accepts
    nobody, so that the system answers for it, and nobody else does.
    """

    def __init__(
        self, family: int = socket.AF_INET, address: Any = (HERE, 0), *, context: ssl.SSLContext | None = None,
        says: bytes | None = None, listens: bool = True,
    ) -> None:  # fmt: skip
        self._listener = socket.socket(family)
        self._listener.bind(address)
        self._listener.listen(16)
        self.address: Any = self._listener.getsockname()
        self._context, self._says = context, says
        self.accepted: list[socket.socket] = []
        self.errors: list[Exception] = []
        self.threads: list[threading.Thread] = []
        if listens:
            self._begin(self._accept)

    @property
    def port(self) -> int:
        return int(self.address[1])

    def _begin(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # ended
                return
            self._begin(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._says is not None:
                self.accepted.append(sock)
                sock.sendall(self._says)
                return
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            self.accepted.append(sock)
            while True:
                heard = sock.recv(4096)
                if not heard:
                    return
                sock.sendall(heard)
        except (OSError, ValueError) as error:  # it was ended, or the client does not like us
            self.errors.append(error)

    def end(self) -> None:
        """Stop listening, and close what is open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self.accepted:
            hang_up(sock)
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        for sock in self.accepted:
            sock.close()


def hang_up(sock: socket.socket) -> None:
    """Say that no more will come, nor be heard. The thread that reads from it ends."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def reset(sock: socket.socket) -> None:
    """End a TCP connection by a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    duplicate = socket.socket(fileno=sock.detach())  # the thread that reads holds the descriptor open till it ends
    duplicate.close()


def crowded(address: tuple[str, int] = (HERE, 0)) -> Iterator[int]:
    """Yield the port of somebody who never answers: so many wait in line there that the system drops newcomers."""
    with socket.socket() as listener:
        listener.bind(address)
        listener.listen(0)
        crowd = [socket.socket() for _ in range(8)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in crowd:
            sock.close()


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])


def papers_in(folder: Path) -> Any:
    """Return an authority; a test without the openssl program is skipped."""
    from faults.certificates import Authority

    if shutil.which("openssl") is None:
        require_or_skip("openssl", "the program is not installed")
    return Authority(folder, "authority")


def has_ipv6() -> None:
    """Skip a test where the machine has no IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        require_or_skip("ipv6", str(error))
