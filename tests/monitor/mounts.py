"""Something that serves a monitor on a port of this machine, and how it is asked."""

from __future__ import annotations

import json
import socket

from unit.threads import PATIENCE

from .asks import answered, said


class Mounted:
    """Something that listens on a port of this machine."""

    def __init__(self, port):
        self.port = port

    def sends(self, data):
        """Return a connection on which *data* was sent."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        sock.settimeout(PATIENCE)
        sock.sendall(data)
        return sock

    def get(self, path, method="GET", body=b"", **headers):
        """Return the answer."""
        given = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", "Content-Length": str(len(body)), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
        with self.sends("\r\n".join([*lines, "", ""]).encode() + body) as sock:
            return answered(said(sock))


def names(answer):
    return [pool["name"] for pool in json.loads(answer.body)["pools"]]


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
