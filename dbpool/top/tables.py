"""Tables: what is known of a pool as columns and rows of plain text. No terminal in this file."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool.top.cleaning import at, count, number, rows, text
from dbpool.top.once import GOOD, label
from dbpool.top.words import word

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWEST = 200  # events, connections, waiters that are shown
WELL, UNWELL = "●", "▲"
NUMBERS = ("id", "backend", "held", "idle", "age", "uses", "retires in", "waits", "count", "ago", "pid", "used",
           "connecting", "waiting")  # fmt: skip


class Table(NamedTuple):
    """Columns by their words, and rows of text."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def seconds(value: float | None) -> str:
    """Return a duration as people read it."""
    if value is None:
        return ""
    if value < 1:
        return f"{1000 * value:.3g} ms" if value > 0 else "0"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes < 10 and rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


def shown(value: float | None) -> str:
    """Return a number as people read it."""
    return "" if value is None else str(int(value)) if value == int(value) else f"{value:.4g}"


def pools(state: dict[str, Any], language: str) -> Table:
    """A line for each pool."""
    found = []
    for pool in rows(state, "pools"):
        used, most = count(pool, "stats", "used"), count(pool, "stats", "maxconn")
        figures = (f"{used}/{most}", *(str(count(pool, "stats", name)) for name in ("idle", "connecting", "waiting")))
        code = text(pool, "verdict", "code") or "unknown"
        verdict = f"{WELL if code in GOOD else UNWELL} {word(code, language)}"
        found.append((str(count(pool, "pid")), label(pool), verdict, *figures))
    return Table(("pid", "pool", "verdict", "used", "idle", "connecting", "waiting"), found)


def connections(pool: dict[str, Any], language: str) -> Table:
    """Those that are leased first, the longest first, as the monitor sorts them."""
    found = [
        (
            shown(number(each, "id")),
            shown(number(each, "backend_pid")),
            word(text(each, "state"), language),
            seconds(number(each, "held")),
            seconds(number(each, "idle_for")),
            seconds(number(each, "age")),
            shown(number(each, "uses")),
            seconds(number(each, "retires_in")),
            text(each, "holder"),
            text(each, "at") or text(each, "site"),
        )
        for each in rows(pool, "connections")[:NEWEST]
    ]
    return Table(("id", "backend", "state", "held", "idle", "age", "uses", "retires in", "holder", "at"), found)


def waiters(pool: dict[str, Any], language: str) -> Table:
    """Who waits, the next one first; then connects that are under way, and why they fail."""
    found = [
        (text(each, "who"), seconds(number(each, "seconds")), text(each, "at"), text(each, "key"))
        for each in rows(pool, "waiters")[:NEWEST]
    ]
    under_way = word("a connect is under way", language)
    found += [(under_way, seconds(number(each, "seconds")), "", "") for each in rows(pool, "connecting")]
    failing = number(pool, "backoff", "failing_for")
    if failing is not None:
        why, later = text(pool, "backoff", "last_error"), number(pool, "backoff", "next_try_in")
        then = "" if later is None else f"{word('next try in', language)} {seconds(later)}"
        found.append((word("connects fail", language), seconds(failing), why, then))
    return Table(("who", "waits", "at", "key"), found)


def leaks(pool: dict[str, Any], language: str) -> Table:
    """Leaks by the place where the connection was got."""
    found = [
        (text(each, "place"), shown(number(each, "count")), seconds(number(each, "last")))
        for each in rows(pool, "leaks")
    ]
    return Table(("place", "count", "ago"), found)


def events(pool: dict[str, Any], language: str) -> Table:
    """What happened, the newest first."""
    found = [
        (clock(number(each, "at")), text(each, "event"), shown(number(each, "n")), text(each, "text"))
        for each in reversed(rows(pool, "events")[-NEWEST:])
    ]
    return Table(("time", "event", "count", "text"), found)


def settings(pool: dict[str, Any], language: str) -> Table:
    """What the lint finds, then each option, its value, and where that is from."""
    found = [(text(each, "severity"), text(each, "text"), text(each, "code")) for each in rows(pool, "lint")]
    found += [(text(each, "name"), text(each, "value"), text(each, "source")) for each in rows(pool, "config")]
    return Table(("name", "value", "source"), found)


def advice(pool: dict[str, Any], language: str) -> Table:
    """How many connections there should be, and the figures that this follows from."""
    found = [(word("advice", language), text(pool, "advice", "text"))] if at(pool, "advice") else []
    found += [(word(name, language), shown(number(pool, "advice", name))) for name in ("demand", "peak", "suggested")]
    found.append((word("mean hold", language), seconds(number(pool, "advice", "mean_hold"))))
    for name in ("wait", "connect"):
        values = [seconds(number(pool, "percentiles", name, each)) or "-" for each in ("p50", "p95", "p99")]
        found.append((word(f"{name} p50 / p95 / p99, last minute", language), " / ".join(values)))
    found += [(word(name, language), shown(number(pool, "stats", name))) for name in ("leases", "opened", "timeouts")]
    reasons = at(pool, "stats", "discards")
    closes = reasons.items() if isinstance(reasons, dict) else ()
    found.append((word("closes by reason", language), ", ".join(f"{reason} {shown(n)}" for reason, n in closes)))
    return Table(("figure", "value"), [row for row in found if row[1]])


def clock(moment: float | None) -> str:
    """Return the time of day."""
    try:
        return "" if moment is None else datetime.fromtimestamp(moment).strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return ""


TABLES = {
    "connections": connections,
    "waiters": waiters,
    "leaks": leaks,
    "events": events,
    "settings": settings,
    "advice": advice,
}
