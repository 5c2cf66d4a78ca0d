"""A host, the pools that lead there, and how one talks over their connections: in threads, and in a loop."""

from __future__ import annotations

import asyncio
import socket

from onloop import OnLoop, run

import dbpool
from dbpool import ThreadedConnectionPool

from .threads import eventually


class Threads:
    """Talks over sockets."""

    kind, prefix, spoilt = ThreadedConnectionPool, "", socket.timeout

    def send(self, conn, data):
        conn.sendall(data)

    def hear(self, conn, count):
        return conn.recv(count)

    def end(self, conn):
        conn.close()


class Loop:
    """Talks over streams, in the loop."""

    kind, prefix, spoilt = OnLoop, "Async", asyncio.TimeoutError

    def send(self, conn, data):
        async def send():
            conn.writer.write(data)
            await conn.writer.drain()

        run(send())

    def hear(self, conn, count):
        return run(conn.reader.read(count))

    def end(self, conn):
        async def end():
            conn.close()

        run(end())


class Scene:
    """A host of one kind, and pools that lead there."""

    def __init__(self, shell, kind, host, *arguments, **options):
        self.shell, self.kind, self.host = shell, kind, host
        self._class = getattr(dbpool, f"{shell.prefix}{kind.capitalize()}Connector")
        self._arguments, self._options = arguments, options
        self.pools = []

    def connector(self, **options):
        return self._class(*self._arguments, **{**self._options, **options})

    def pool(self, maxconn=2, *, ping=None, reset=None, **config):
        connector = self.connector(ping=ping, reset=reset)
        config = {"timeout": 5, "detect_deadlock": False, **config}
        pool = self.shell.kind(0, maxconn, connect=connector, config=config)
        self.pools.append(pool)
        return pool

    def peer(self, number=-1):
        """The host's end of a connection."""
        eventually(lambda: self.host.accepted)
        return self.host.accepted[number]

    def echo(self, conn, data=b"hello"):
        """Say something, and hear it."""
        self.shell.send(conn, data)
        return self.shell.hear(conn, len(data)) == data
