"""Guard: who may ask for what: by which name, from which page, and with which token."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from dbpool.monitor.messages import Request, Response, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_TOKEN = 16  # characters
SESSION = 12 * 3600  # seconds that a login holds
COOKIE = "dbpool_monitor"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:/@\s]+)(:\d{1,5})?")  # a name or an address, and perhaps a port


def checked_token(token: str | None) -> str | None:
    """Return *token* if it can be one; else say what is wrong with it."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(f"token must be a text or None, not a {type(token).__name__}")
    if len(token) < SHORTEST_TOKEN:
        raise ValueError(f"token must have at least {SHORTEST_TOKEN} characters")
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError("token must be printable ASCII, without a space at either end: it is sent in a header")
    return token


def checked_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the names under which the monitor may be asked for, in lower case."""
    names: list[Any] = [] if isinstance(hosts, str) else list(hosts)
    if isinstance(hosts, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError("hosts must be several names, each a text")
    return tuple(name.lower() for name in names)


def is_loopback(host: str) -> bool:
    """True if nobody outside this machine can reach a server that is bound to *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Who may ask. *bound*: the address that the server is bound to; None where another server serves."""

    def __init__(self, token: str | None, hosts: Iterable[str] = (), bound: str | None = None) -> None:
        self._token = checked_token(token)
        self._hosts = {*checked_hosts(hosts), *LOOPBACK, *([] if bound is None else [bound.lower()])}
        self._any_number = bound in ("", "0.0.0.0", "::")
        if self._any_number:
            self._hosts.add(socket.gethostname().lower())
        self._key = (token or secrets.token_urlsafe(32)).encode()
        self.csrf = self._signed("csrf")
        self._cookie = f"{COOKIE}_{self._signed('cookie')[:8]}"  # monitors on other ports of a host have others

    def refuse(self, request: Request) -> Response | None:
        """Return why *request* cannot come from one of our own pages, or a program of this user's; None if it can."""
        host = request.header("host").lower()
        if not self._is_known(host):
            return refusal(421, "this name is not known here: start the monitor with hosts=")
        origin = request.header("origin")
        if origin and urlsplit(origin).netloc.lower() != host:
            return refusal(403, "asked for by a page of another origin")
        if request.header("sec-fetch-site") == "cross-site" and request.path not in ("", "/", "/login"):
            return refusal(403, "asked for by a page of another site")
        if request.method not in SAFE and not origin:
            return refusal(403, "the header Origin is missing")
        return None

    def refuse_change(self, request: Request) -> Response | None:
        """Return why nothing may be changed by *request*; None if it may."""
        if not _same(request.header("x-csrf-token"), self.csrf):
            return refusal(403, "the header X-CSRF-Token is missing or wrong: it is in the state as csrf")
        if request.header("content-type").partition(";")[0].strip().lower() != "application/json":
            return refusal(415, "the body must be application/json")
        return None

    def is_let_in(self, request: Request) -> bool:
        """True if there is no token, or *request* has it in its header, or the cookie of a login."""
        if self._token is None:
            return True
        scheme, _, given = request.header("authorization").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        return any(self._is_session(value) for value in _cookies(request.header("cookie"), self._cookie))

    def is_token(self, given: str) -> bool:
        """True if *given*, in a form, is the token."""
        return self._token is not None and _same(given, self._token)

    def cookie(self, request: Request) -> str:
        """Return what Set-Cookie is to say after a login."""
        until = str(int(time()) + SESSION)
        path = quote(request.prefix) or "/"
        secure = "; Secure" if request.secure else ""
        value = f"{until}.{self._signed('session ' + until)}"
        return f"{self._cookie}={value}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={SESSION}{secure}"

    def _is_session(self, value: str) -> bool:
        until, _, signature = value.partition(".")
        if not _same(signature, self._signed("session " + until)):
            return False
        return until.isdigit() and time() < int(until)

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, b"dbpool monitor " + text.encode(), "sha256").hexdigest()

    def _is_known(self, host: str) -> bool:
        if host in self._hosts:
            return True
        parts = HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts[1].strip("[]")
        if name in self._hosts:
            return True
        if not self._any_number:
            return False
        try:  # a page that had its name moved to our address still asks by its name
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _cookies(header: str, wanted: str) -> list[str]:
    pairs = [each.strip().partition("=") for each in header.split(";")]
    return [value for name, _, value in pairs if name == wanted]
