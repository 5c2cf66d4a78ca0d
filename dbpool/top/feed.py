"""Feed: what was heard from a monitor, kept for drawing; and the thread that listens, and asks again if it is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable

from dbpool.top.cleaning import at, text
from dbpool.top.cleaning import rows as dicts
from dbpool.top.client import Unauthorised, Unreachable

if TYPE_CHECKING:
    from dbpool.top.client import Monitor

MOST_ROWS = 1_000  # of a series; a monitor keeps 900
PATIENCE = 2.0  # seconds until a lost monitor is asked again


class Heard:
    """The newest state, and each pool's series by its id."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.series: dict[str, dict[str, Any]] = {}

    def take(self, event: str, document: dict[str, Any]) -> None:
        """Keep what *event* brought."""
        state = at(document, "state")
        if isinstance(state, dict):
            self.state = state
        if event == "history":
            found = at(document, "history")
            self.series = dict(found) if isinstance(found, dict) else {}
        elif event == "state":
            rows = at(document, "rows")
            for name, row in rows.items() if isinstance(rows, dict) else ():
                self._add(name, row)
        ids = {text(pool, "id") for pool in self.pools()}
        self.series = {name: series for name, series in self.series.items() if name in ids}

    def pools(self) -> list[dict[str, Any]]:
        """Return the pools."""
        return dicts(self.state, "pools")

    def _add(self, name: str, row: Any) -> None:
        series = self.series.setdefault(name, {})
        if isinstance(row, dict) and isinstance(series, dict):
            extend(series, row)


def extend(series: dict[str, Any], row: dict[str, Any]) -> None:
    """Add one row to *series*; a row of the same moment as the last is no news."""
    times = series.setdefault("t", [])
    if not isinstance(times, list) or (times and times[-1] == row.get("t")):
        return
    length = len(times)
    for name, value in row.items():
        if name == "max":
            series["max"] = value
        elif isinstance(value, dict):
            inside = series.setdefault(name, {})
            for inner, each in value.items():
                _put(inside, inner, each, length)
        else:
            _put(series, name, value, length)
    for values in _lists(series):
        values.extend([None] * (length + 1 - len(values)))  # what this row does not tell
        del values[:-MOST_ROWS]


def _put(series: Any, name: str, value: Any, length: int) -> None:
    """Put *value* behind *length* others, also where none was heard of before; not where something else is."""
    values = series.setdefault(name, []) if isinstance(series, dict) else None
    if isinstance(values, list):
        values.extend([None] * (length - len(values)))
        values.append(value)


def _lists(series: dict[str, Any]) -> list[list[Any]]:
    inner = [each for value in series.values() if isinstance(value, dict) for each in value.values()]
    return [each for each in (*series.values(), *inner) if isinstance(each, list)]


class Listener(threading.Thread):
    """Hands each event to *tell*. A stream that has ended is asked for again; one that is lost is told of, too.

    What is told then is ("lost", {"why": text}). A monitor mounted in a WSGI application ends each stream at once.
    """

    def __init__(self, monitor: Monitor, tell: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(name="dbpool-top", daemon=True)
        self._monitor, self._tell = monitor, tell
        self._ended = threading.Event()
        self._again = threading.Event()

    def run(self) -> None:
        """Listen until stop()."""
        while not self._ended.is_set():
            self._again.clear()
            try:
                for event, document in self._monitor.events():
                    if self._ended.is_set():
                        return
                    self._tell(event, document)
            except (Unreachable, Unauthorised) as exc:
                if not self._ended.is_set():
                    self._tell("lost", {"why": str(exc)})
            self._again.wait(PATIENCE)

    def hurry(self) -> None:
        """Ask again at once, if the stream is lost."""
        self._again.set()

    def stop(self) -> None:
        """End; what is being read is cut off."""
        self._ended.set()
        self._again.set()
        self._monitor.hang_up()
