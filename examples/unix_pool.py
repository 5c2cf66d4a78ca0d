"""A pool of connections to a Unix socket, with a counter of the program's on each of them.

    python examples/unix_pool.py                     with a server of its own
    python examples/unix_pool.py --serve /tmp/shout  only the server
    python examples/unix_pool.py /tmp/shout          only the pool

The server says each line again, in capitals.
"""

from __future__ import annotations

import os
import socketserver
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dbpool import ThreadedConnectionPool, UnixConnector

if TYPE_CHECKING:
    import socket


class Shouting(socketserver.StreamRequestHandler):
    """The server's side of one connection."""

    def handle(self) -> None:
        """Answer line by line until the client hangs up."""
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingUnixStreamServer):
    """Has a thread for each connection."""

    daemon_threads = True


def begin_count(conn: socket.socket) -> None:
    """Give each new connection what the program wants to know of it: sockets of the pool take attributes."""
    conn.questions = 0  # type: ignore[attr-defined]


def open_pool(path: str) -> ThreadedConnectionPool[socket.socket]:
    """Return a pool. A server that is not there yet, or whose queue is full, is waited for."""
    return ThreadedConnectionPool(1, 3, connect=UnixConnector(path), config={"on_connect": begin_count, "timeout": 5})


def ask(pool: ThreadedConnectionPool[socket.socket], word: str) -> str:
    """Return the answer to one line."""
    with pool.connection() as conn:
        conn.questions += 1
        conn.sendall(word.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = conn.recv(4096)
            if not part:
                raise EOFError("the server has hung up in the midst of an answer")
            answer += part
    return answer.decode().rstrip("\n")


def main(path: str) -> None:
    """Ask with many threads at a time, and see which connection has carried how much."""
    words = [f"word {number}" for number in range(200)]
    with open_pool(path) as pool, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda word: ask(pool, word), words))
        assert answers == [word.upper() for word in words]
        conns = [pool.getconn() for _ in range(pool.stats().size)]
        print(len(answers), "answers, by connection:", *sorted(conn.questions for conn in conns))
        for conn in conns:
            pool.putconn(conn)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        Server(sys.argv[2], Shouting).serve_forever()
    elif len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder, Server(os.path.join(folder, "socket"), Shouting) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            main(server.server_address)
            server.shutdown()
