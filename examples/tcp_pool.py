"""A pool of TCP connections: few sockets, many threads, each question answered to the thread that has asked.

    python examples/tcp_pool.py                  with a server of its own
    python examples/tcp_pool.py --serve 7007     only the server
    python examples/tcp_pool.py 127.0.0.1 7007   only the pool

The server says each line again, in capitals; PING it answers with PONG.
"""

from __future__ import annotations

import socketserver
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dbpool import TcpConnector, ThreadedConnectionPool

if TYPE_CHECKING:
    import socket


class Shouting(socketserver.StreamRequestHandler):
    """The server's side of one connection."""

    def handle(self) -> None:
        """Answer line by line until the client hangs up."""
        for line in self.rfile:
            self.wfile.write(b"PONG\n" if line == b"PING\n" else line.upper())


class Server(socketserver.ThreadingTCPServer):
    """Has a thread for each connection."""

    allow_reuse_address = daemon_threads = True


def open_pool(host: str, port: int, maxconn: int = 3) -> ThreadedConnectionPool[socket.socket]:
    """Return a pool; the connector says where it leads and how a socket is asked whether it is alive."""
    connector = TcpConnector(host, port, connect_timeout=2, ping=(b"PING\n", b"PONG\n"))
    return ThreadedConnectionPool(1, maxconn, connect=connector, config={"timeout": 5, "check_timeout": 1})


def ask(pool: ThreadedConnectionPool[socket.socket], word: str) -> str:
    """Return the answer. A socket that has more to say than was read is not pooled; nor one that an error has left."""
    with pool.connection() as conn:
        conn.sendall(word.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = conn.recv(4096)
            if not part:
                raise EOFError("the server has hung up in the midst of an answer")
            answer += part
    return answer.decode().rstrip("\n")


def main(host: str, port: int) -> None:
    """Ask with many threads at a time."""
    words = [f"word {number}" for number in range(200)]
    with open_pool(host, port) as pool, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda word: ask(pool, word), words))
        assert answers == [word.upper() for word in words]
        print(len(answers), "answers over", pool.stats().opened, "connections")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        Server(("127.0.0.1", int(sys.argv[2])), Shouting).serve_forever()
    elif len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]))
    else:
        with Server(("127.0.0.1", 0), Shouting) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            main(*server.server_address)
            server.shutdown()
