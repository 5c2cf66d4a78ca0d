"""Threads that end, states that are waited for, and a clock that stands still until it is told."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from dbpool.clock import uptime

PATIENCE = 10.0  # seconds until a test gives up on something that should have happened


def eventually(is_so: Callable[[], Any]) -> None:
    """Return once *is_so*() is true; this is the one place where tests wait for a state."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {PATIENCE:.0f} s"
        time.sleep(0.0005)


class Caller:
    """A thread that runs *work* at once; `result()` waits for it and returns, or raises, what it did."""

    def __init__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.error: BaseException | None = None
        self._returned: Any = None
        self._work = lambda: work(*args, **kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._returned = self._work()
        except BaseException as error:  # raised in the test's own thread
            self.error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self, patience: float = PATIENCE) -> Any:
        self._thread.join(patience)
        assert self.ended, "the caller never came back"
        returned, self._returned = self._returned, None
        if self.error is not None:
            raise self.error
        return returned


class Queue:
    """Callers who stand in line at a pool, in the order in which they were made."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.served: list[int] = []  # the numbers of the callers who were given a connection, in order ...
        self.given: list[int] = []  # ... and the numbers of their connections
        self._callers: list[Caller] = []

    def join(self, work: Callable[[Any], Any] | None = None) -> Caller:
        """Have one more caller wait; return once it does. It calls *work* with the connection and puts it."""
        number, waiting = len(self._callers), self.pool.stats().waiting
        caller = Caller(self._be_served, number, work)
        self._callers.append(caller)
        eventually(lambda: self.pool.stats().waiting > waiting)
        return caller

    def _be_served(self, number: int, work: Callable[[Any], Any] | None) -> None:
        conn = self.pool.getconn(timeout=PATIENCE)
        self.served.append(number)
        self.given.append(conn.number)
        if work is not None:
            work(conn)
        self.pool.putconn(conn)

    def finish(self) -> list[int]:
        """Return who was served, in order, once all are."""
        for caller in self._callers:
            caller.result()
        return self.served


class Clock:
    """Stands in for uptime(): it stands still, at a whole second so that sums are exact, and leaps when told."""

    def __init__(self) -> None:
        self.now = float(int(uptime()))

    def __call__(self) -> float:
        return self.now

    def leap(self, seconds: float) -> None:
        self.now += seconds


class Peak:
    """Counts how many are inside at a time; `most` remembers the highest count."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self.inside -= 1
