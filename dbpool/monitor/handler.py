"""Handler: one connection to the server: reads requests within limits of time and size, writes the answers."""

from __future__ import annotations

import io
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import Any

from dbpool.monitor.messages import MOST_BODY, Request, Response, refusal

READ_WITHIN, WRITE_WITHIN, STAY = 10.0, 10.0, 15.0  # seconds: for a request, for an answer, between two
MOST_HEAD = 32 * 1024  # bytes of a request's line and headers
TOO_MUCH = refusal(431, "the headers are too long")


class Overlong(Exception):
    """A request is longer than it may be."""


class Incoming(io.RawIOBase):
    """What a client sends, until a deadline."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.deadline = monotonic() + READ_WITHIN
        self.left = MOST_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        if self.left <= 0:
            raise Overlong
        self._sock.settimeout(left)
        count: int = self._sock.recv_into(buffer)
        self.left -= count
        return count


class Handler(BaseHTTPRequestHandler):
    """Brings requests to the routes."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dbpool", ""
    timeout = READ_WITHIN
    disable_nagle_algorithm = True
    server: Any

    def setup(self) -> None:
        super().setup()
        self._incoming = Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming, 4096)

    def handle_one_request(self) -> None:
        self.close_connection = True
        self._incoming.deadline, self._incoming.left = monotonic() + STAY, MOST_HEAD
        try:
            self.raw_requestline = self.rfile.readline(MOST_HEAD + 1)
            if len(self.raw_requestline) > MOST_HEAD:
                raise Overlong
            self._incoming.deadline = min(self._incoming.deadline, monotonic() + READ_WITHIN)
            if self.raw_requestline and self.parse_request():
                self._answer()
        except Overlong:
            self.close_connection = True
            with suppress(OSError):
                self._reply(TOO_MUCH)
        except (OSError, ValueError):  # the client has gone, or is too slow
            self.close_connection = True

    def _answer(self) -> None:
        request = self._request()
        if isinstance(request, Response):
            self.close_connection = True
            self._reply(request)
            return
        self._reply(self.server.routes.handle(request))

    def _request(self) -> Request | Response:
        """Return what was asked for, or why that cannot be answered."""
        if self.command not in ("GET", "HEAD", "POST"):
            return refusal(405, "not with this method", ("Allow", "GET, HEAD, POST"))
        if "transfer-encoding" in self.headers:
            return refusal(411, "the header Content-Length is missing")
        names = [name.lower() for name in self.headers]
        if len(set(names)) != len(names):
            once = {name for name in names if names.count(name) > 1} & {"host", "content-length", "origin"}
            if once:
                return refusal(400, "a header is there twice")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return refusal(400, "Content-Length must be a number")
        if int(length) > MOST_BODY:
            return refusal(413, "the body is too long")
        self._incoming.left = MOST_BODY + 4096
        body = self.rfile.read(int(length)) if int(length) else b""
        path, _, query = self.path.partition("?")
        if not path.startswith("/"):
            return refusal(400, "the path must begin with /")
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, path, query, headers, body)

    def _reply(self, response: Response) -> None:
        self.connection.settimeout(WRITE_WITHIN)
        head = [f"HTTP/1.1 {response.line}", *(f"{name}: {value}" for name, value in response.headers)]
        streams = response.stream is not None
        if streams or self.close_connection:
            self.close_connection = True
            head.append("Connection: close")
        data = "\r\n".join((*head, "", "")).encode("latin-1", "replace")
        try:
            self.connection.sendall(data + response.body)
            if streams:
                self._stream(response.stream)
        finally:
            response.close()

    def _stream(self, feed: Any) -> None:
        part = feed.first()
        while part is not None:
            self.connection.settimeout(WRITE_WITHIN)
            self.connection.sendall(part)
            part = feed.next()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what could not even be read."""
        self.close_connection = True
        with suppress(OSError):
            self._reply(refusal(code if code in (400, 408, 414, 431, 505) else 400, "this is no request"))

    def log_message(self, *args: Any) -> None:
        """Nobody wants to read of each request."""
