"""Waiting that ends: calls with a limit, and conditions polled in place of fixed sleeps."""

from __future__ import annotations

import threading
import time
from typing import Callable, TypeVar

R = TypeVar("R")
POLL = 0.0002


class Deadlock(AssertionError):
    """Something that should end does not."""


def run_bounded(fn: Callable[[], R], seconds: float) -> R:
    """Return fn(), run in a daemon thread. Waits up to *seconds*; raises Deadlock then, or what fn raised."""
    results: list[R] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(fn())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors.pop()
    if not results:
        raise Deadlock(f"{getattr(fn, '__name__', fn)} did not end within {seconds} s")
    return results.pop()


def wait_until(predicate: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait until predicate() is true, up to *seconds*; return whether it is."""
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True
