"""Stands in for a PostgreSQL that lets everybody in, answers some questions with nothing, and then says no more."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


WELCOME = b"".join(
    (
        _message(b"R", struct.pack("!I", 0)),  # no password needed
        *(
            _message(b"S", name + b"\0" + value + b"\0")
            for name, value in ((b"server_version", b"15.0"), (b"client_encoding", b"UTF8"), (b"DateStyle", b"ISO"))
        ),
        _message(b"K", struct.pack("!II", 1, 1)),
        _message(b"Z", b"I"),
    )
)
COLUMN = b"setting\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
NO_ROWS = b"".join((_message(b"T", struct.pack("!H", 1) + COLUMN), _message(b"C", b"SELECT 0\0"), _message(b"Z", b"I")))
ENCRYPTION = ((8, 80877103), (8, 80877104))  # SSL, GSS: refused by an N


@contextmanager
def mute_server(answers: int = 0) -> Iterator[int]:
    """Yield the port of one that answers so many questions of each client."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, held, answers), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for client in held:
                client.close()


def _serve(listener: socket.socket, held: list[socket.socket], answers: int) -> None:
    with suppress(OSError):  # the listener was shut down
        while True:
            client, _ = listener.accept()
            held.append(client)
            while struct.unpack("!II", client.recv(8)) in ENCRYPTION:
                client.sendall(b"N")
            client.recv(65536)
            client.sendall(WELCOME)
            for _ in range(answers):
                if client.recv(65536):
                    client.sendall(NO_ROWS)
