"""A pool of Thrift clients: Ping is the heartbeat, and who meets an error of the transport has its client closed.

    python examples/thrift_pool.py

Server and clients are in this one process; the clients are thriftpy2's.
"""

from __future__ import annotations

import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import thriftpy2
from thriftpy2.protocol import TBinaryProtocolFactory
from thriftpy2.server import TThreadedServer
from thriftpy2.thrift import TClient, TException, TProcessor
from thriftpy2.transport import TBufferedTransportFactory, TServerSocket, TSocket, TTransportException

from dbpool import Connector, ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACE = """
exception DivisionByZero { 1: string why }

service Calculator {
    string Ping(),
    i32 divide(1: i32 number, 2: i32 by) throws (1: DivisionByZero error),
}
"""
calculator = thriftpy2.load_fp(io.StringIO(INTERFACE), "calculator_thrift")
CONFIG = {
    "ping_after": 0,  # Ping before each use. 30: only what nobody has used for 30 seconds
    "ping_interval": 20,  # the heartbeat of those that nobody uses
    "check_timeout": 2,  # seconds that a Ping may take
    "timeout": 5,
}


class ThriftConnector(Connector):
    """Clients of one service."""

    error = TException

    def connect(self, host: str, port: int) -> TClient:
        """Open a client; the arguments are the pool's."""
        opened = TSocket(host, port, socket_timeout=3000)  # ms
        opened.open()
        transport = TBufferedTransportFactory().get_transport(opened)
        client = TClient(calculator.Calculator, TBinaryProtocolFactory().get_protocol(transport))
        client.socket = opened
        return client

    def close(self, client: TClient) -> None:
        """Close a client."""
        client.close()

    def ping(self, client: TClient) -> None:
        """The heartbeat; raises if the server does not answer."""
        client.Ping()

    def unfit(self, client: TClient) -> bool:
        """True if nobody can use it: asked at each getconn, without a word to the server."""
        return client.socket.sock is None

    def fileno(self, client: TClient) -> int | None:
        """Return the descriptor: by it the pool sees that the server has hung up, and ends a Ping that hangs."""
        return None if client.socket.sock is None else client.socket.sock.fileno()

    def refusal(self, error: BaseException) -> str | None:
        """A server that is away may come back: callers wait for it."""
        return "transient" if isinstance(error, TTransportException) else None


@contextmanager
def client_of(pool: ThreadedConnectionPool[TClient]) -> Iterator[TClient]:
    """Lend a client. An answer that was agreed on keeps it; whatever else went wrong may have left half a message."""
    client = pool.getconn()
    try:
        yield client
    except calculator.DivisionByZero:
        pool.putconn(client)
        raise
    except BaseException:
        pool.putconn(client, close=True)
        raise
    else:
        pool.putconn(client)


class Calculator:
    """What the server does."""

    def Ping(self) -> str:  # noqa: N802 (the interface's name)
        """Answer."""
        return "pong"

    def divide(self, number: int, by: int) -> int:
        """Return the quotient."""
        if by == 0:
            raise calculator.DivisionByZero("by zero")
        return number // by


class Listening(TServerSocket):
    """A server's socket that may listen before the server is started."""

    def listen(self) -> None:
        """Listen, if it does not already."""
        if self.sock is None:
            super().listen()


@contextmanager
def serving() -> Iterator[int]:
    """Run a server in a thread, on a free port; yield the port."""
    listening = Listening("127.0.0.1", 0, client_timeout=None)
    listening.listen()
    port = listening.sock.getsockname()[1]
    server = TThreadedServer(TProcessor(calculator.Calculator, Calculator()), listening, daemon=True)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.closed = True
        socket.create_connection(("127.0.0.1", port)).close()  # wakes it
        thread.join()
        listening.close()


def divide(pool: ThreadedConnectionPool[TClient], number: int, by: int) -> Any:
    """Return the quotient, or in words why there is none."""
    try:
        with client_of(pool) as client:
            return client.divide(number, by)
    except calculator.DivisionByZero as error:
        return error.why


def main() -> None:
    """Divide with many threads and few clients."""
    with (
        serving() as port,
        ThreadedConnectionPool(1, 3, "127.0.0.1", port, connect=ThriftConnector(), config=CONFIG) as pool,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(lambda by: divide(pool, 100, by), range(50)))
        print(found[0], found[1:5], "by", pool.stats().opened, "clients")


if __name__ == "__main__":
    main()
