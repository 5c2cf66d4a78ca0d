"""Report: what came of a run, as Markdown and as JSON."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

from dbpool.pool import HEARTBEAT

from .history import SLACK, waits
from .scene import CHECK_TIMEOUT, MAXCONN, TIMEOUT

if TYPE_CHECKING:
    from .history import Lease
    from .soak import Result

SHOWN = 20  # violations


def digest(result: Result) -> dict[str, Any]:
    """Return the figures of a run."""
    story = result.story
    assert story is not None
    waited = sorted(lease.answered - lease.asked for lease in story.leases if lease.got)
    put = sorted(lease.done - lease.left for lease in story.leases if lease.done is not None and lease.within)
    wrote = Counter(lease.wrote for lease in story.leases)
    return {
        "seed": result.seed,
        "load": result.shown,
        "python": platform.python_version(),
        "postgresql": result.how,
        "seconds": round(result.seconds, 1),
        "leases": len(story.leases),
        "operations": wrote["ok"],
        "operations_per_second": round(wrote["ok"] / result.seconds, 1),
        "unknown_outcomes": wrote["unknown"],
        "faults": len(result.strikes),
        "recovery": {kind: recovery_of(result, kind) for kind in sorted({each.kind for each in result.strikes})},
        "strikes": [
            {"kind": each.kind, "at": round(each.at, 3), "what": each.text, "recovery": each.recovery}
            for each in result.strikes
        ],
        "app_errors": dict((result.errors or Counter()).most_common()),
        "warnings": dict((result.logged or Counter()).most_common()),
        "getconn_failures": dict(refusals(story.leases, patient=True)),
        "impatient_callers_refused": sum(refusals(story.leases, patient=False).values()),
        "interrupts": result.interrupts,
        "getconn_seconds": quantiles(waited),
        "putconn_seconds": quantiles(put),
        "windows_of_waiting": len(waits(story.leases, story.lines)),
        "looks": result.looks,
        "longest_stall": round(result.longest_stall, 3),
        "most_backends": result.most._asdict() if result.most else {},
        "most_backends_held": result.most_held,
        "pool_aborted": result.stats.aborted,
        "discards": result.stats.discards,
        "left_over": result.left,
        "memory_growth_mb": round(result.grown, 1),
        "violations": [violation._asdict() for violation in result.violations],
        "good": result.is_good,
    }


def refusals(leases: list[Lease], patient: bool) -> Counter[str]:
    """Return what getconn raised, for those who could wait, or for those who could not."""
    return Counter(
        lease.refused for lease in leases if lease.refused is not None and (lease.timeout >= TIMEOUT) is patient
    )


def recovery_of(result: Result, kind: str) -> dict[str, Any]:
    """Return how often a kind of fault struck, and the seconds until it was over."""
    strikes = [each for each in result.strikes if each.kind == kind]
    known = [each.recovery for each in strikes if each.recovery is not None]
    figures: dict[str, Any] = {"times": len(strikes)}
    for what in ("first", "full"):
        seconds = [getattr(recovery, what) for recovery in known]
        figures[f"{what}_p50"] = round(statistics.median(seconds), 3) if seconds else None
        figures[f"{what}_max"] = round(max(seconds), 3) if seconds else None
    return figures


def quantiles(ordered: list[float]) -> dict[str, float]:
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {name: round(ordered[int(share * last)], 4) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))}


def markdown(figures: dict[str, Any]) -> str:
    """Return the figures as tables."""
    lines = [
        f"# Chaos soak, seed {figures['seed']}",
        "",
        f"{figures['load']}; CPython {figures['python']}, PostgreSQL: {figures['postgresql']}",
        "",
        "| | | wanted |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(map(str, row))} |" for row in rows(figures)),
        "",
        "| fault | times | first success, p50 / max s | all of the capacity, p50 / max s |",
        "| --- | --- | --- | --- |",
    ]
    for kind, each in figures["recovery"].items():
        lines.append(f"| {kind} | {each['times']} | {seconds(each, 'first')} | {seconds(each, 'full')} |")
    titles = {"app_errors": "errors in use", "getconn_failures": "getconn failed", "warnings": "the pool's warnings"}
    for title, counts in ((title, figures[name]) for name, title in titles.items() if figures[name]):
        lines += ["", f"| {title} | times |", "| --- | --- |", *(f"| {text} | {n} |" for text, n in counts.items())]
    violations = figures["violations"]
    lines += ["", *(f"- {each['rule']}: {each['text']}" for each in violations[:SHOWN])]
    if len(violations) > SHOWN:
        lines.append(f"- and {len(violations) - SHOWN} more")
    return "\n".join(lines)


def seconds(recovery: dict[str, Any], until: str) -> str:
    return f"{recovery[f'{until}_p50']} / {recovery[f'{until}_max']}"


def rows(figures: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of the first table."""
    most, left = figures["most_backends"], figures["left_over"]
    back = figures["recovery"]
    waited, put = (" / ".join(map(str, figures[f"{name}conn_seconds"].values())) for name in ("get", "put"))
    listed = f"{most['seen']} = {most['held']} held + {most['strange']} strange + {most['let_go']} let go"
    return [
        ("seconds", figures["seconds"], ""),
        ("operations (acknowledged commits)", figures["operations"], ""),
        ("operations per second", figures["operations_per_second"], ""),
        ("outcome unknown", figures["unknown_outcomes"], ""),
        ("faults", figures["faults"], ""),
        ("server restarted, until the first success: p50 / max s", seconds(back["restart"], "first"), "<= 0.2 / <= 1"),
        ("server away for 1 s, until the first success: p50 / max s", seconds(back["crash"], "first"), "<= 1"),
        ("errors in use", sum(figures["app_errors"].values()), ""),
        ("getconn failed for those who waited", sum(figures["getconn_failures"].values()), 0),
        ("impatient callers refused", figures["impatient_callers_refused"], ""),
        ("interrupts or cancellations caught", figures["interrupts"], ""),
        ("getconn, p50 / p99 / max s", waited, f"<= {TIMEOUT:g}"),
        ("putconn, p50 / p99 / max s", put, f"<= {2 * CHECK_TIMEOUT:g}"),
        ("looks at the line in which somebody was overtaken or not", figures["windows_of_waiting"], "> 0"),
        ("longest wait beside a free slot, s", figures["longest_stall"], f"<= {HEARTBEAT + SLACK:g}"),
        ("looks at the server", figures["looks"], "> 0"),
        ("most backends that hold a slot", figures["most_backends_held"], f"<= {MAXCONN}"),
        ("most backends listed", listed, f"held <= {MAXCONN}"),
        *((f"{what} left over", count, 0) for what, count in left.items()),
        ("memory grown, MB", figures["memory_growth_mb"], ""),
        ("violations", len(figures["violations"]), 0),
    ]
