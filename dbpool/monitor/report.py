"""Report: what is told of one pool: its figures, connections, callers, troubles, options. Nothing of it waits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dbpool import holders
from dbpool.clock import uptime
from dbpool.directory import shown
from dbpool.entry import FOR_EVER, RETIRED, ThreadRef
from dbpool.escaping import escaped
from dbpool.stats import PoolStats, said, snapshot
from dbpool.tally import percentile

if TYPE_CHECKING:
    from dbpool.history import History
    from dbpool.monitor.found import Watched
    from dbpool.tally import Histogram

LOOKS = 100  # without the lock of a pool for tasks, what is looked at may change meanwhile
LATELY = 60.0  # seconds
PERCENTS = (50, 95, 99)
LONGEST = 300  # characters of a text that somebody else has written
MOST_ROWS = 1000  # connections, and callers, that are listed
UNTRACED = "not traced: trace=True tells where"
TIMES = ("connect_times", "wait_times")


class Nowhere:
    """Stands for ``pool._who`` where nobody may be asked: an event loop that does not answer."""

    def __init__(self, who: Any) -> None:
        self._who = who

    def told(self, idents: list[Any]) -> list[dict[str, Any]]:
        """Return what a PoolUser says of each, but not where it stands."""
        return [{"thread_id": None, "thread": None, "task": self._named(ident), "at": None} for ident in idents]

    def _named(self, ident: Any) -> str | None:
        task = None if ident is None else ident()
        return None if task is None else str(task.get_name())


def report(pool: Any, watched: Watched, who: Any = None) -> dict[str, Any]:
    """Return what is told of *pool*; *who* tells of its callers, if not the pool's own."""
    who = who or pool._who
    now, stats, entries, line, connecting = _look(pool)
    named = identity(pool, watched)
    return {
        **named,
        "verdict": verdict(pool, who),
        "stats": figures(stats),
        "percentiles": lately(watched.history),
        "connections": _connections(entries, now, who),
        "waiters": _waiters(line, now, who),
        "connecting": [{"seconds": round(now - since, 3)} for since in connecting],
        "backoff": _backoff(pool._state, stats, now),
        "leaks": _leaks(pool._state.tally, now),
        **watched.settings.told(pool, stats, named["driver"], watched.history),
    }


def identity(pool: Any, watched: Watched) -> dict[str, Any]:
    """Return which pool it is."""
    connector = pool._opener.connector
    return {
        "name": escaped(str(pool.name)),
        "kind": type(pool).__name__,
        "driver": None if connector is None else driver_of(connector),
        "endpoint": watched.endpoint,
    }


def driver_of(connector: Any) -> str:
    """Return the module of the driver, or what kind of connector it is."""
    error = connector.error
    module = "" if error is None else str(getattr(error, "__module__", "")).partition(".")[0]
    known = module.lstrip("_")
    return type(connector).__name__ if known in ("", "builtins", "dbpool") else known


def _look(pool: Any) -> tuple[float, PoolStats, list[dict[str, Any]], list[Any], list[float]]:
    """Return what is to be told of, as it is now; under the pool's lock, so as little as can be."""
    for look in range(LOOKS):
        try:
            with pool._lock:
                now, state = uptime(), pool._state
                return now, snapshot(state), _entries(state), holders.waiting(state), holders.connecting(state)
        except RuntimeError:  # a loop needs no lock
            if look == LOOKS - 1:
                raise
    raise AssertionError


def _entries(state: Any) -> list[dict[str, Any]]:
    idle = set(map(id, state.idle.copy()))
    found = []
    for entry in list(state.entries.values()):
        cid = entry.cid
        if cid is not None:
            row = holders.row(entry)
            place = "checking"
            if cid in state.closing:
                place = "closing"
            elif entry.key is not None or state.leases.get(cid) is entry:
                place = "leased"
            elif cid in idle:
                place = "idle"
            found.append({"entry": entry, "state": place, "row": row})
    return found


ORDER = ("leased", "checking", "closing", "idle")


def _connections(found: list[dict[str, Any]], now: float, who: Any) -> list[dict[str, Any]]:
    found.sort(key=lambda each: (ORDER.index(each["state"]), each["row"][2]))
    del found[MOST_ROWS:]
    leased = [each for each in found if each["state"] == "leased"]
    users = dict(zip(map(id, leased), holders.users([each["row"] for each in leased], now, who)))
    return [_connection(each["entry"], each["state"], users.get(id(each)), now) for each in found]


def _connection(entry: Any, place: str, user: Any, now: float) -> dict[str, Any]:
    return {
        "id": entry.number,
        "backend_pid": entry.backend_pid,
        "state": place,
        "held": None if user is None else round(user.seconds, 3),
        "idle_for": round(max(0.0, now - entry.since), 3) if place == "idle" else None,
        "holder": None if user is None else name_of(user),
        "at": None if user is None else _short(user.at),
        "site": None if user is None else _short(user.site),
        "key": None if user is None else key_of(user.key),
        "age": round(max(0.0, now - entry.opened), 3),
        "uses": entry.uses,
        "retires_in": None if entry.use_by == FOR_EVER else round(max(0.0, entry.use_by - now), 3),
    }


def _waiters(line: list[Any], now: float, who: Any) -> list[dict[str, Any]]:
    users = holders.users(line[:MOST_ROWS], now, who)
    return [
        {
            "who": name_of(user),
            "seconds": round(user.seconds, 3),
            "at": _short(user.at),
            "key": key_of(user.key),
        }
        for user in users
    ]


def name_of(user: Any) -> str:
    """Return what a PoolUser is called."""
    if user.thread_id is None:
        text = "a task which has ended" if user.task is None else f"task {user.task!r}"
    else:
        text = f"thread {user.thread!r}" if user.thread else f"thread {user.thread_id}"
    return _short(text) or ""


def key_of(key: Any) -> str | None:
    """Return what is shown of a key: no password; nothing, where it only stands for the thread."""
    if key is None or isinstance(key, ThreadRef):
        return None
    return _short(shown(key)) if _is_plain(key) else f"<{type(key).__name__}>"


def _is_plain(key: Any) -> bool:
    """True for what shows itself without calling anything of the user's."""
    return all(map(_is_plain, key)) if type(key) is tuple else type(key) in (str, bytes, int, float, bool)


def _backoff(state: Any, stats: PoolStats, now: float) -> dict[str, Any]:
    retry_at = max(state.retry_at, state.refill_at)
    return {
        "failing_for": None if stats.failing_since is None else round(max(0.0, now - stats.failing_since), 3),
        "last_error": stats.last_error,
        "next_try_in": None if retry_at == RETIRED else round(max(0.0, retry_at - now), 3),
    }


def _leaks(tally: Any, now: float) -> list[dict[str, Any]]:
    places = list(tally.leak_places.items())
    return [
        {"place": _short(place or UNTRACED), "count": count, "last": round(max(0.0, now - told), 3)}
        for place, (count, told) in reversed(places)
    ]


def verdict(pool: Any, who: Any) -> dict[str, Any]:
    """Return what is the matter with *pool*."""
    found = pool._judged(who)
    return {
        "code": found.code,
        "text": escaped(found.text),
        "since": None if found.since is None else round(found.since, 3),
        "place": _short(found.place),
    }


def figures(stats: PoolStats) -> dict[str, Any]:
    """Return the statistics; times as what was counted, and not by buckets."""
    found = {name: getattr(stats, name) for name in PoolStats.__slots__}
    for name in TIMES:
        found[name] = times(found[name])
    return {**found, "name": escaped(stats.name)}


def times(found: Histogram) -> dict[str, Any]:
    """Return how long something took."""
    told = {"count": found.count, "sum": round(found.sum, 6), "longest": found.longest}
    return {**told, **{f"p{percent}": found.percentile(percent) for percent in PERCENTS}}


def lately(history: History | None) -> dict[str, Any]:
    """Return the percentiles of the last minute."""
    found = {}
    for name, kind in (("wait", "waits"), ("connect", "connects")):
        counts = [0.0] if history is None else history.buckets(kind, LATELY)
        found[name] = {f"p{percent}": percentile(counts, percent) for percent in PERCENTS}
    return found


def broken(pool: Any, error: BaseException) -> dict[str, Any]:
    """Return what is told of a pool of which nothing can be told; the page shows the others."""
    try:
        name = escaped(str(pool.name))
    except Exception:
        name = f"a {type(pool).__name__}"
    text = f"no report: {said(error)}"
    return {
        "name": name, "kind": type(pool).__name__, "driver": None, "endpoint": None,
        "verdict": {"code": "unknown", "text": text, "since": None, "place": None}, "stats": None,
        "percentiles": lately(None), "connections": [], "waiters": [], "connecting": [],
        "backoff": {"failing_for": None, "last_error": None, "next_try_in": None}, "leaks": [], "config": [],
        "lint": [], "advice": None, "pid": os.getpid(),
    }  # fmt: skip


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    shown = escaped(text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
