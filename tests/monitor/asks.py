"""Asks a monitor: an application directly, or a server over a socket of our own, byte for byte."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from unit.threads import PATIENCE

from dbpool.monitor.messages import Request, Response

if TYPE_CHECKING:
    from dbpool.monitor import PoolMonitor
    from dbpool.monitor.routes import Routes

HOST = "127.0.0.1:8765"
TOKEN = "a-token-of-24-characters"


class Client:
    """Asks an application as a page on this machine does."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.sampler = routes.sampler

    def ask(self, path: str, method: str = "GET", body: bytes = b"", query: str = "", **headers: str) -> Response:
        """Return the answer. Headers are given with _ for -; one that is None is left out."""
        given = {"host": HOST, **{name.replace("_", "-").lower(): value for name, value in headers.items()}}
        known = {name: value for name, value in given.items() if value is not None}
        return self.routes.handle(Request(method, path, query, known, body))

    def state(self) -> dict[str, Any]:
        """Return the state, as it is now."""
        self.sampler.look()
        answer = self.ask("/json")
        assert answer.status == 200, answer
        return json.loads(answer.body)  # type: ignore[no-any-return]

    def pool(self, name: str | None = None) -> dict[str, Any]:
        """Return what is told of one pool."""
        found = [pool for pool in self.state()["pools"] if name is None or pool["name"] == name]
        assert len(found) == 1, found
        return found[0]  # type: ignore[no-any-return]

    def act(self, name: str, **wanted: Any) -> Response:
        """Do what the page's buttons do."""
        origin, csrf = f"http://{HOST}", self.state()["csrf"]
        body = json.dumps(wanted).encode()
        return self.ask(
            f"/actions/{name}", "POST", body, origin=origin, x_csrf_token=csrf, content_type="application/json"
        )


def only(client: Client, *path: Any) -> Any:
    """Return what *path* leads to, of what is told of the only pool."""
    found: Any = client.pool()
    for each in path:
        found = found[each]
    return found


def header(answer: Response, name: str) -> str | None:
    """Return a header of the answer."""
    found = [value for each, value in answer.headers if each.lower() == name.lower()]
    assert len(found) <= 1, found
    return found[0] if found else None


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def connected(monitor: PoolMonitor) -> socket.socket:
    """Return a connection to the monitor's server."""
    sock = socket.create_connection(("127.0.0.1", monitor.port), PATIENCE)
    sock.settimeout(PATIENCE)
    return sock


def said(sock: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def until(sock: socket.socket, text: bytes) -> bytes:
    """Return what comes until *text* has come."""
    data = b""
    while text not in data:
        part = sock.recv(65536)
        assert part, data
        data += part
    return data


async def soon(is_so: Callable[[], Any]) -> None:
    """Return once *is_so*() is true."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def answered(data: bytes) -> Answer:
    """Take an answer apart."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return Answer(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


def get(monitor: PoolMonitor, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """Ask over a connection of its own."""
    given = {"Host": f"127.0.0.1:{monitor.port}", "Connection": "close"}
    given.update({name.replace("_", "-").title(): value for name, value in headers.items()})
    if body:
        given["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    with connected(monitor) as sock:
        sock.sendall("\r\n".join(lines).encode("latin-1") + body)
        return answered(said(sock))
