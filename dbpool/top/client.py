"""Client: asks a monitor for its state and its events, over the standard library's http.client."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dbpool.escaping import escaped
from dbpool.top.cleaning import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "DBPOOL_MONITOR_TOKEN"  # the environment variable
TIMEOUT = 5.0  # seconds for a connect, and for each part of an answer
SILENCE = 15.0  # seconds without an event, after which the stream is taken for lost
MOST_BYTES = 64_000_000  # of one answer, or of one event
VERSION = 1  # of the state
FAILURES = (OSError, HTTPException, ValueError, RecursionError)


class BadAddress(ValueError):
    """The URL, or the token, cannot be used; the text says why, and shows nothing of them."""


class Unreachable(Exception):
    """There is no answer, or none that can be understood."""


class Unauthorised(Exception):
    """The monitor wants a token, or another one."""


class Address(NamedTuple):
    """Where a monitor is."""

    tls: bool
    host: str
    port: int | None
    path: str  # ends with a slash

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return escaped(f"{'https' if self.tls else 'http'}://{host}{port}{self.path}")


def address(url: str) -> Address:
    """Return what *url* means; raise BadAddress."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadAddress("the URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress("the URL must begin with http:// or https:// and a host")
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise BadAddress(f"the URL takes no user, no ? and no #; a token belongs into {TOKEN}")
    if re.search(r"[^!-~]", parts.path + parts.hostname):
        raise BadAddress("the URL has a space, or a character that must be written as %..")
    return Address(parts.scheme == "https", parts.hostname, port, f"{parts.path.rstrip('/')}/")


class Monitor:
    """A monitor page, as its address and the token for it. The token is sent as a header, and nowhere shown."""

    def __init__(self, url: str, token: str | None = None) -> None:
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise BadAddress("the token must be printable ASCII without spaces")
        self.address = address(url)
        self._token = token
        self._socket: Any = None  # of the events that are being read

    def __repr__(self) -> str:
        return f"<Monitor {self.address}>"

    def state(self) -> dict[str, Any]:
        """Return the state, as GET json has it, with its texts made fit to print. Raises Unreachable, Unauthorised."""
        try:
            with self._ask("json", "application/json", TIMEOUT) as answer:
                body = answer.read(MOST_BYTES + 1)
            return understood(body)
        except FAILURES as exc:
            raise Unreachable(f"{self.address}: {said(exc)}") from None

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events, each with its document, until the stream ends. Raises Unreachable, Unauthorised."""
        try:
            with self._ask("events", "text/event-stream", SILENCE) as answer:
                for name, data in events(answer):
                    document = clean(json.loads(data))
                    if isinstance(document, dict):
                        checked(document.get("state"))
                        yield name, document
        except FAILURES as exc:
            raise Unreachable(f"{self.address}: {said(exc)}") from None
        finally:
            self._socket = None

    def hang_up(self) -> None:
        """End the events that another thread reads."""
        found = self._socket
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def _ask(self, name: str, accept: str, seconds: float) -> HTTPResponse:
        kind = HTTPSConnection if self.address.tls else HTTPConnection
        connection = kind(self.address.host, self.address.port, timeout=TIMEOUT)
        headers = {"Accept": accept, "Connection": "close", "User-Agent": "dbpool-top"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            self._socket = connection.sock
            connection.request("GET", self.address.path + name, headers=headers)
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if answer.status in (401, 403):
            answer.close()
            asks = "wants a token" if self._token is None else "does not take this token"
            raise Unauthorised(f"{self.address} {asks}: {TOKEN}")
        kind_of_answer = (answer.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        if answer.status != 200 or kind_of_answer != accept:
            answer.close()
            raise Unreachable(f"{self.address}: answered {answer.status}, {escaped(kind_of_answer)[:60] or 'nothing'}")
        return answer


def understood(body: bytes) -> dict[str, Any]:
    """Return the state that *body* is; raise ValueError."""
    if len(body) > MOST_BYTES:
        raise ValueError("the answer is too long")
    return checked(clean(json.loads(body)))


def checked(state: Any) -> dict[str, Any]:
    """Return *state* if it is one that we can read; raise ValueError."""
    if not isinstance(state, dict) or not isinstance(state.get("pools"), list):
        raise ValueError("this is no monitor of dbpool")
    if state.get("version") != VERSION:
        raise ValueError("the monitor is of another version of dbpool")
    return state


def events(lines: HTTPResponse) -> Iterator[tuple[str, str]]:
    """Yield the server-sent events: the name and the data of each."""
    name, data, size = "message", [], 0
    while line := lines.readline(MOST_BYTES + 1):
        size += len(line)
        if size > MOST_BYTES:
            raise ValueError("an event is too long")
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        if field == "data":
            data.append(value[1:] if value.startswith(" ") else value)
        elif field == "event":
            name = value.strip()
        elif line in (b"\n", b"\r\n"):
            if data:
                yield name, "\n".join(data)
            name, data, size = "message", [], 0


def said(exc: BaseException) -> str:
    """Return in one line why there is no answer."""
    if isinstance(exc, socket.timeout):
        return "no answer in time"
    words = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return escaped(str(words))[:200]
