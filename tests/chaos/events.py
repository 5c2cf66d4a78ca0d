"""Event and Journal: what every thread or task did and when, written down without a lock, kept in a file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

PERIOD = 0.2  # seconds between two writes to the file


class Event(NamedTuple):
    """One line of the history.

    `stage` is "invoke" before a call, and "ok", "fail" or "unknown" after it; or "note". What ties them is `call`, the
    number of an attempt to get a connection, and all that is then done with it.
    """

    at: float  # of the monotonic clock, which all processes of a machine share
    pool: int  # the process: a forked child's pool is another
    thread: int  # or who it is among the tasks of a loop
    stage: str
    op: str
    call: int = 0
    conn: int = 0  # the connection's serial number in its process
    pid: int = 0  # its backend
    data: Any = None


class Journal:
    """Takes events from any thread, an interrupted one too: an append to a deque is all that a thread does.

    *who* tells the number of the thread, or of the task, that notes something.
    """

    def __init__(self, folder: Path, who: Callable[[], int] = threading.get_ident) -> None:
        self.folder = folder
        self._who = who
        self._begin()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._events: deque[Event] = deque()
        self._file = (self.folder / f"history-{self._process}.jsonl").open("a", encoding="utf-8")

    def begin_anew(self) -> None:
        """In a forked child, which has one thread: a history of its own; flush() writes it."""
        self._begin()

    def note(self, stage: str, op: str, call: int = 0, conn: int = 0, pid: int = 0, data: Any = None) -> float:
        """Write down what happens; return when that was."""
        at = time.monotonic()
        self._events.append(Event(at, self._process, self._who(), stage, op, call, conn, pid, data))
        return at

    def flush(self) -> None:
        """Write to the file what was noted so far."""
        while self._events:
            self._file.write(json.dumps(self._events.popleft()) + "\n")
        self._file.flush()

    def __enter__(self) -> Journal:
        self._writer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Write the rest; nothing is written down afterwards. May be called again."""
        self._ended.set()
        self._writer.join()
        if not self._file.closed:
            self.flush()
            self._file.close()

    def _write(self) -> None:
        while not self._ended.wait(PERIOD):
            self.flush()


def read(folder: Path) -> list[Event]:
    """Return the histories of all processes, each thread's events in their order."""
    events = []
    for path in sorted(folder.glob("history-*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            events += [Event(*json.loads(line)) for line in lines]
    return events
