"""A connector of one's own: a pool of connections to Redis, over sockets, with no driver.

    python examples/redis_connector.py localhost 6379

It shows what a connector can tell the pool, and what the pool makes of it. Only ``connect`` is needed.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbpool import Connector, ThreadedConnectionPool

CONFIG = {
    "ping_after": 30,  # seconds unused after which a connection is pinged before it is handed out
    "ping_interval": 20,  # keep-alive: less than the server's `timeout`
    "check_timeout": 2,  # seconds that PING and RESET may take
}
STATEFUL = {"AUTH", "CLIENT", "MULTI", "SELECT", "SUBSCRIBE", "PSUBSCRIBE", "WATCH"}  # what outlives a command


class RedisError(Exception):
    """What the server refuses, or that it is gone: the base of the pool's own errors, too."""


class Redis:
    """One connection: a command, an answer. It can be weakly referenced, so that a dropped one comes back."""

    def __init__(self, host: str, port: int, seconds: float | None = None) -> None:
        try:
            self._socket = socket.create_connection((host, port), seconds)
        except OSError as error:
            raise RedisError(f"REFUSED {error}") from error
        self._socket.settimeout(None)
        self._answers = self._socket.makefile("rb")
        self.broken = False  # an answer is missing, or half read: nothing can be asked any more
        self.changed = False  # it is not as it was when it was new

    def do(self, *words: Any) -> Any:
        """Send a command and return the answer: text, a number, a list, or None."""
        self.changed = self.changed or str(words[0]).upper() in STATEFUL
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        message = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        before, self.broken = self.broken, True
        if before:
            raise RedisError("LOST the connection")
        try:
            self._socket.sendall(message)
            answer = self._read()
        except OSError as error:
            raise RedisError(f"LOST {error}") from error
        self.broken = False
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def _read(self) -> Any:
        line = self._answers.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if rest == b"-1":
            return None
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        return self._answers.read(int(rest) + 2)[:-2].decode()

    def fileno(self) -> int:
        """Return the socket's descriptor: by it the pool sees that the server has hung up, and ends what hangs."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self.broken = True
        self._answers.close()
        self._socket.close()


class RedisConnector(Connector):
    """What the pool has to know of it."""

    error = RedisError

    def connect(self, host: str, port: int = 6379) -> Redis:
        """Open a connection; the arguments are the pool's."""
        conn = Redis(host, port, seconds=5)
        try:
            conn.do("PING")  # a server that is still loading, or full, says so only now
        except BaseException:
            conn.close()
            raise
        return conn

    def unfit(self, conn: Redis) -> bool:
        """True if nobody can use it: asked at each getconn, without a word to the server."""
        return conn.broken

    def dirty(self, conn: Redis) -> bool:
        """True if it has to be reset before the next one has it. A GET changes nothing, and costs nothing here."""
        return conn.broken or conn.changed

    def reset(self, conn: Redis, level: str) -> None:
        """Make it as new (Redis 6.2); what this raises has it closed."""
        conn.do("RESET")
        conn.changed = False

    def ping(self, conn: Redis) -> None:
        """The heartbeat. Raises if there is no answer, or not the one."""
        if conn.do("PING") != "PONG":
            raise RedisError("no PONG")

    def is_writable(self, conn: Redis) -> bool:
        """For the option role: "read-write" is a master."""
        return bool(conn.do("ROLE")[0] == "master")

    def idle_limit(self, conn: Redis) -> float | None:
        """The server's limit for idle connections: the pool warns if it is shorter than its own."""
        return float(conn.do("CONFIG", "GET", "timeout")[1]) or None

    def is_lost(self, conn: Redis) -> bool:
        """True if it was the server's doing; the others are then looked at, too."""
        return conn.broken

    def is_read_only(self, conn: Redis, error: BaseException) -> bool:
        """True if the server has become a replica: the connection is not used again."""
        return str(error).startswith("READONLY")

    def refusal(self, error: BaseException) -> str | None:
        """Wait for a server that is away, loading or full; fail at once for a wrong password."""
        if not isinstance(error, RedisError):
            return None
        passing = ("REFUSED", "LOST", "LOADING", "ERR max number of clients")
        return "transient" if str(error).startswith(passing) else "permanent"


def main(host: str, port: int) -> None:
    """Count with many threads on few connections."""

    def count(number: int) -> Any:
        with pool.connection() as redis:
            return redis.do("INCRBY", "dbpool:example", number)

    with ThreadedConnectionPool(1, 3, host, port, connect=RedisConnector(), config=CONFIG) as pool:
        with pool.connection() as redis:
            redis.do("SET", "dbpool:example", 0)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(101)))
        with pool.connection() as redis:
            redis.do("MULTI")  # and no EXEC: RESET discards it
        with pool.connection() as redis:
            print("0 + 1 + ... + 100 =", redis.do("GET", "dbpool:example"), "by", pool.stats().opened, "connections")
            redis.do("DEL", "dbpool:example")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
