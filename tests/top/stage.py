"""A monitor of the tests' own, which says what it is told to, and documents for it to say."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = object()


def a_pool(name: str = "orders", number: int = 1, code: str = "healthy", **more: Any) -> dict[str, Any]:
    """Return a pool of a state: six connections of at most eight."""
    return {
        "id": f"7-{number}", "pid": 7, "name": name, "kind": "ThreadedConnectionPool", "driver": "fake",
        "endpoint": None,
        "verdict": {"code": code, "text": "as the test says", "since": None, "place": None},
        "stats": {"used": 4, "idle": 1, "connecting": 1, "waiting": 2, "maxconn": 8, "minconn": 1, "leases": 90,
                  "opened": 6, "timeouts": 0, "discards": {"expired": 3, "lost": 2}},
        "percentiles": {"wait": {"p50": 0.001, "p95": 0.25, "p99": 1.5}, "connect": {"p50": 0.02}},
        "connections": [
            {"id": 3, "backend_pid": 4711, "state": "leased", "held": 2.5, "holder": "thread 'worker-3'",
             "at": "shop.py:12 in buy", "age": 75.0, "uses": 12, "retires_in": 3540.0},
            {"id": 4, "backend_pid": None, "state": "idle", "idle_for": 0.5, "age": 9.0, "uses": 1},
        ],
        "waiters": [{"who": "thread 'late'", "seconds": 1.25, "at": "shop.py:9 in queue", "key": None}],
        "connecting": [{"seconds": 0.75}],
        "backoff": {"failing_for": 3.0, "last_error": "OperationalError: refused", "next_try_in": 0.5},
        "leaks": [{"place": "shop.py:33 in lose", "count": 2, "last": 12.0}],
        "events": [{"at": 1700000000.0, "event": "connected", "text": "the first", "n": 1},
                   {"at": 1700000001.0, "event": "discarded", "text": "the last", "n": 5}],
        "config": [{"name": "timeout", "value": "10.0", "source": "default"}],
        "lint": [{"code": "no-timeout", "severity": "warning", "text": "who waits may wait for ever"}],
        "advice": {"demand": 3.25, "peak": 6, "mean_hold": 0.012, "suggested": 5, "text": "five would do"},
        **more,
    }  # fmt: skip


def a_state(*pools: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a state with *pools*."""
    process = {"pid": 7, "uptime": 12.0, "stale": False}
    return {
        "version": 1, "now": 1700000001.0, "actions": False, "csrf": None, "process": process, "processes": [process],
        "pools": list(pools), **more,
    }  # fmt: skip


def a_history(*pools: dict[str, Any], length: int = 60) -> dict[str, Any]:
    """Return series of that length for *pools*: 4 of 8 in use, and in the last second all."""
    flat = {"connecting": 0, "waiting": 0, "opened": 0, "errors": 0, "timeouts": 0, "wait_p50": None,
            "wait_p95": 0.25, "wait_p99": 0.5}  # fmt: skip
    series = {
        "t": [1700000000.0 + second for second in range(length)],
        "used": [4] * (length - 1) + [8],
        "idle": [1] * (length - 1) + [0],
        "max": 8,
        "closed": {"expired": [1] + [0] * (length - 1)},
        **{name: [value] * length for name, value in flat.items()},
    }
    return {pool["id"]: series for pool in pools}


class Stage:
    """What the monitor says, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.kind = 200, "application/json"
        self.body: Any = a_state(a_pool())
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []  # the paths, and the headers
        self.events: Queue[Any] = Queue()
        self.url = ""

    def say(self, event: str, document: Any) -> None:
        """Send an event to whoever listens."""
        self.events.put(f"event: {event}\ndata: {json.dumps(document)}\n\n".encode())

    def begin(self, *pools: dict[str, Any]) -> None:
        """Send the first event."""
        self.say("history", {"history": a_history(*pools), "state": a_state(*pools)})

    def end_stream(self) -> None:
        """End the stream of whoever listens."""
        self.events.put(ENDED)


@contextmanager
def a_monitor() -> Iterator[Stage]:
    """Serve a stage on a port of its own."""
    stage = Stage()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            stage.asked.append((self.path, dict(self.headers)))
            with suppress(OSError):
                if self.path.endswith("/events") and stage.status == 200:
                    self.stream()
                else:
                    self.answer()

        def answer(self) -> None:
            body = stage.body if isinstance(stage.body, bytes) else json.dumps(stage.body).encode()
            self.send_response(stage.status)
            for name, value in {"Content-Type": stage.kind, **stage.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.flush()
            while (event := stage.events.get()) is not ENDED:
                self.wfile.write(event)
                self.wfile.flush()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """A client that has gone is expected."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        stage.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield stage
        finally:
            for _ in range(8):
                stage.end_stream()
            server.shutdown()
            thread.join()
