"""Request and Response: what the server, WSGI and ASGI have in common; and the headers that every answer has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BODY = 64 * 1024  # bytes
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
ALWAYS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),  # no-referrer: the login form would come from the origin "null"
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)
TEXT, HTML, JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
REASONS = {
    200: "OK", 303: "See Other", 304: "Not Modified", 308: "Permanent Redirect", 400: "Bad Request",
    401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 411: "Length Required", 413: "Content Too Large", 415: "Unsupported Media Type",
    421: "Misdirected Request", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


class Request(NamedTuple):
    """What was asked for. The *path* begins where the application is mounted; the headers' names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = {}
    body: bytes = b""
    prefix: str = ""  # where the application is mounted
    secure: bool = False  # by https

    def header(self, name: str) -> str:
        """Return a header's value; "" if there is none."""
        return self.headers.get(name, "")


class Response(NamedTuple):
    """The answer: a *body*, or a *stream*, of which the parts come with time."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    stream: Any = None  # a Feed

    def close(self) -> None:
        """It is not needed any more."""
        if self.stream is not None:
            self.stream.close()

    @property
    def line(self) -> str:
        """The status as HTTP/1.1 and WSGI write it."""
        return f"{self.status} {REASONS.get(self.status, 'Unknown')}"


def answer(
    status: int, body: bytes | str, kind: str = TEXT, *more: tuple[str, str], cache: str = "no-store"
) -> Response:  # fmt: skip
    """Return a whole answer."""
    data = body.encode() if isinstance(body, str) else body
    length = () if status == 304 else (("Content-Type", kind), ("Content-Length", str(len(data))))
    return Response(status, [*length, ("Cache-Control", cache), *ALWAYS, *more], data)


def refusal(status: int, text: str, *more: tuple[str, str]) -> Response:
    """Return an answer that says in a line why there is none."""
    return answer(status, text + "\n", TEXT, *more)


def streamed(feed: Any) -> Response:
    """Return an answer that has no end."""
    kind = ("Content-Type", "text/event-stream; charset=utf-8")
    return Response(200, [kind, ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"), *ALWAYS], b"", feed)
