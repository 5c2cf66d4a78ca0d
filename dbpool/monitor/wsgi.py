"""WSGI: the monitor as an application to be mounted, in Flask, Django, or under gunicorn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.monitor.messages import MOST_BODY, Request, Response, refusal
from dbpool.monitor.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

LENGTH, TYPE = "CONTENT_LENGTH", "CONTENT_TYPE"


def wsgi_app(
    *, pools: Iterable[Any] | None = None, token: str | None = None, actions: bool = False,
    workers: str | PathLike[str] | None = None, hosts: Iterable[str] = (),
) -> WsgiMonitor:  # fmt: skip
    """Return the monitor as a WSGI application; the arguments are those of pool_monitor().

    *hosts*: the names by which it may be asked, beside localhost. A stream would keep a thread of the server's busy: so
    each ends at once, and the page asks again after two seconds.
    """
    routes = Routes(pools, token, actions, workers, hosts)
    routes.begin()
    return WsgiMonitor(routes)


class WsgiMonitor:
    """The application."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = _request(environ)
        response = request if isinstance(request, Response) else self._routes.handle(request)
        try:
            parts = [response.body if response.stream is None else response.stream.first()]
        finally:
            response.close()
        start_response(response.line, list(response.headers))
        return parts

    def close(self) -> None:
        """Look no more."""
        self._routes.close()


def _request(environ: dict[str, Any]) -> Request | Response:
    headers = {
        name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")
    }
    headers["content-type"] = environ.get(TYPE, "")
    length = environ.get(LENGTH) or "0"
    if not (length.isascii() and length.isdigit()):
        return refusal(400, "Content-Length must be a number")
    if int(length) > MOST_BODY:
        return refusal(413, "the body is too long")
    return Request(
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", ""),
        environ.get("QUERY_STRING", ""),
        headers,
        environ["wsgi.input"].read(int(length)) if int(length) else b"",
        environ.get("SCRIPT_NAME", "").rstrip("/"),
        environ.get("wsgi.url_scheme") == "https",
    )
