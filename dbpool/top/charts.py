"""Charts: a pool's series as rows of (text, style): bands of connections, and a line for each other series."""

from __future__ import annotations

from typing import Any, Callable

from dbpool.top.bands import BANDS, Segment, binned, fullest, line, stacked
from dbpool.top.cleaning import at, count, number, numbers
from dbpool.top.tables import seconds, shown
from dbpool.top.words import word

Rows = list[list[Segment]]
SPANS = (60, 300, 900)  # seconds that are drawn
GRADES = {
    "healthy": "green", "exhausted": "orange", "leak_suspected": "violet", "database_slow": "yellow",
    "misconfigured": "blue", "closed": "quiet",
}  # fmt: skip


def latest(series: dict[str, Any], span: int, *path: str) -> list[float | None]:
    """Return the values of the last *span* seconds."""
    times, values = numbers(series, "t"), numbers(series, *path)
    newest = max((each for each in times if each is not None), default=0.0)
    first = next((index for index, each in enumerate(times) if each is not None and each > newest - span), 0)
    return values[first:]


def bands(pool: dict[str, Any], series: dict[str, Any], width: int, height: int, span: int, language: str) -> Rows:
    """Return the bands against the pool's maximum, with an axis at the left and a legend below."""
    values = {name: latest(series, span, name) for name in BANDS}
    length = max(map(len, values.values()))
    limit = count(pool, "stats", "maxconn")
    highest = max((sum(each or 0 for each in moment) for moment in zip(*values.values())), default=0)
    most = max(limit, int(highest), 1)
    margin = len(str(most)) + 1
    plot = max(1, width - margin)
    drawn = stacked(fullest(values, binned(length, plot, span)), most, plot, max(1, height - 1))
    labels = {0: str(most), len(drawn) - 1: "0"}
    rows = [[(labels.get(index, "").rjust(margin - 1) + "│", "quiet"), *row] for index, row in enumerate(drawn)]
    return [*rows, _legend(pool, limit, margin, span, language)]


def _legend(pool: dict[str, Any], limit: int, margin: int, span: int, language: str) -> list[Segment]:
    found: list[Segment] = [(" " * margin, "")]
    for name in BANDS:
        found += [("■ ", name), (f"{word(name, language)} {count(pool, 'stats', name)}   ", "")]
    return [*found, (f"{word('max', language)} {limit}   {seconds(span)}", "quiet")]


def lines(pool: dict[str, Any], series: dict[str, Any], width: int, span: int, language: str) -> Rows:
    """Return two rows for each series: what it is and how much, and its line."""
    wanted: list[tuple[str, str, str, Callable[[Any], str]]] = [
        ("waiting", "waiting", "peak", shown),
        ("wait p95", "wait_p95", "peak", seconds),
        ("wait p99", "wait_p99", "peak", seconds),
        ("opened", "opened", "total", shown),
        ("closes", "closed", "total", shown),
        ("errors", "errors", "total", shown),
        ("timeouts", "timeouts", "total", shown),
    ]
    rows: Rows = []
    for name, field, kind, show in wanted:
        values = closed(series, span) if field == "closed" else latest(series, span, field)
        known = [each for each in values if each is not None]
        figure = (max(known) if kind == "peak" else round(sum(known))) if known else None
        told = f"{word(kind, language)} {show(figure) or '-'}"
        title = word(name, language)
        if field == "waiting":
            title += f" {count(pool, 'stats', 'waiting')}"
        style = "red" if field in ("errors", "timeouts") and figure else "line"
        rows += [[(f"{title}  ", ""), (told, "quiet")], [(line(values, width, span), style)]]
    return rows


def closed(series: dict[str, Any], span: int) -> list[float | None]:
    """Return how many connections were closed in each second, for whatever reason."""
    reasons = at(series, "closed")
    found: list[list[float | None]] = [[0] * len(latest(series, span, "t"))]
    found += [latest(series, span, "closed", reason) for reason in reasons] if isinstance(reasons, dict) else []
    return [sum(each or 0 for each in moment) for moment in zip(*found)]


def verdict(pool: dict[str, Any], language: str) -> list[Segment]:
    """Return the line that says what is the matter: a colour, a word, and the text."""
    code = str(at(pool, "verdict", "code") or "unknown")
    since = number(pool, "verdict", "since")
    found: list[Segment] = [(f" {word(code, language)} ", f"verdict {grade(code)}")]
    if since is not None:
        found.append((f" {seconds(since)}", "quiet"))
    return [*found, (f"  {at(pool, 'verdict', 'text') or ''}", "")]


def grade(code: str) -> str:
    """Return the colour of a verdict, the same as on the page."""
    return GRADES.get(code, "red")
