"""Routes: which answer each request has. It knows no server: wsgi, asgi and the server bring requests here."""

from __future__ import annotations

import threading
from time import strftime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from dbpool import logs
from dbpool.monitor import assets
from dbpool.monitor.actions import act
from dbpool.monitor.bundle import bundle
from dbpool.monitor.exposition import exposed
from dbpool.monitor.feed import Feed
from dbpool.monitor.guard import Guard
from dbpool.monitor.messages import HTML, JSON, Request, Response, answer, refusal, streamed
from dbpool.monitor.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

MOST_VIEWERS = 32  # event streams at the same time
OPENMETRICS = "text/plain; version=0.0.4; charset=utf-8"
READS = ("GET", "HEAD")
ACTIONS = ("evict", "drain", "resize")


class Routes:
    """The application: what is shown, and to whom."""

    def __init__(
        self, pools: Iterable[Any] | None, token: str | None, actions: bool, workers: str | PathLike[str] | None,
        hosts: Iterable[str], bound: str | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(actions, bool):
            raise TypeError(f"actions must be True or False, not {actions!r}")
        self.guard = Guard(token, hosts, bound)
        self.sampler = Sampler(pools, actions, self.guard.csrf)
        self._actions = actions
        self._viewers = threading.BoundedSemaphore(MOST_VIEWERS)
        if workers is not None:
            from dbpool.monitor.workers import Workers

            self.sampler.workers = Workers(workers, self.sampler.document)

    def begin(self) -> None:
        """Look at the pools from now on, and answer the neighbours. Raises OSError."""
        if self.sampler.workers is not None:
            self.sampler.workers.start()
        self.sampler.reopen()

    def close(self) -> None:
        """Look no more, and end the streams."""
        self.sampler.close()
        if self.sampler.workers is not None:
            self.sampler.workers.close()

    def handle(self, request: Request) -> Response:
        """Return the answer to *request*; never raises."""
        try:
            found = self._found(request)
        except Exception:
            logs.exception("monitor: %s failed", request.path)
            found = refusal(500, "this went wrong: the log of the program tells more")
        if request.method == "HEAD" and found.stream is None:
            return found._replace(body=b"")
        return found

    def _found(self, request: Request) -> Response:
        path = request.path.strip("/") if request.path not in ("", "/") else ""
        allowed = self._allowed(path)
        if not allowed:
            return self.guard.refuse(request) or refusal(404, "there is nothing here")
        if request.method not in allowed:
            return refusal(405, "not with this method", ("Allow", ", ".join(allowed)))
        refused = self.guard.refuse(request)
        if refused is not None:
            return refused
        if request.path == "":  # the page's addresses are relative to the folder
            name = quote(request.prefix.rpartition("/")[2])
            return _moved(308, f"./{name}/" if name else "./")
        if path == "login":
            return self._login(request)
        if path.startswith("static/"):
            return assets.served(path[len("static/") :], request.header("if-none-match"))
        if not self.guard.is_let_in(request):
            return _unknown(path, request)
        return self._act(path, request) if path.startswith("actions/") else self._read(path, request)

    def _allowed(self, path: str) -> tuple[str, ...]:
        """Return the methods that *path* has; none: there is nothing."""
        kind, _, name = path.partition("/")
        if path == "login":
            return (*READS, "POST")
        if path in ("", "json", "events", "metrics", "bundle"):
            return READS
        if kind == "static":
            return READS if name in assets.names() else ()
        return ("POST",) if kind == "actions" and name in ACTIONS and self._actions else ()

    def _read(self, path: str, request: Request) -> Response:
        if path == "":
            return answer(200, assets.page(), HTML)
        if path == "events":
            return self._stream(request)
        if path == "json":
            history = parse_qs(request.query).get("history", ["0"])[-1] not in ("", "0")
            return answer(200, self.sampler.text("history" if history else "state")[1], JSON)
        if path == "metrics":
            return answer(200, exposed(self.sampler.pools()), OPENMETRICS)
        name = strftime("dbpool-%Y%m%d-%H%M%S.json")
        return answer(200, bundle(self.sampler), JSON, ("Content-Disposition", f'attachment; filename="{name}"'))

    def _stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return streamed(None)
        if not self._viewers.acquire(blocking=False):
            return refusal(503, f"{MOST_VIEWERS} viewers are there already", ("Retry-After", "10"))
        return streamed(Feed(self.sampler, self._viewers.release))

    def _login(self, request: Request) -> Response:
        if request.method in READS:
            return answer(200, assets.login_page(), HTML)
        if request.header("content-type").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return refusal(415, "the body must be a form")
        given = parse_qs(request.body.decode("utf-8", "replace"), max_num_fields=8).get("token", [""])[0]
        if not self.guard.is_token(given.strip()):
            return answer(401, assets.login_page(failed=True), HTML)
        return _moved(303, "./", ("Set-Cookie", self.guard.cookie(request)))

    def _act(self, path: str, request: Request) -> Response:
        refused = self.guard.refuse_change(request)
        if refused is not None:
            return refused
        return act(path.partition("/")[2], request.body, self.sampler)


def _moved(status: int, where: str, *more: tuple[str, str]) -> Response:
    return answer(status, "", "text/plain; charset=utf-8", ("Location", where), *more)


def _unknown(path: str, request: Request) -> Response:
    if path == "":
        return _moved(303, "login")
    return refusal(401, "a token is needed", ("WWW-Authenticate", 'Bearer realm="dbpool"'))
