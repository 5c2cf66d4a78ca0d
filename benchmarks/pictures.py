"""Draws docs/images/bench-*.svg from the results: medians with their quartiles, to be read on white and on black."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from benchmarks.work import contention, end_to_end, hits, memory, opening, tasks

if TYPE_CHECKING:
    from benchmarks.results import Results, Series, Workload

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
INK, OURS, THEIRS = "#6b7280", "#d9480f", "#4c7fb8"  # each has contrast enough on white and on black
DARK = "#b6bcc6"  # the ink where the reader's system is set to dark
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dbpool",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "legend.frameon": False,
}


def colour(name: str) -> str:
    """Return ours or theirs."""
    return OURS if name.startswith("dbpool") else THEIRS


def bars(axes: Any, series: Series, title: str, log: bool = False, names: list[str] | None = None) -> None:
    """Draw a bar for each peer, the best on top, with its quartiles and its value."""
    order = [name for name in series.ordered() if names is None or name in names][::-1]
    middles = [series.median(name) for name in order]
    spans = [series.spread(name) for name in order]
    low = [max(0.0, middle - span[0]) for middle, span in zip(middles, spans)]
    high = [max(0.0, span[1] - middle) for middle, span in zip(middles, spans)]
    axes.barh(
        order, middles, xerr=(low, high), color=[colour(name) for name in order], ecolor=INK, capsize=2, height=0.7
    )
    if log:
        axes.set_xscale("log")
    for position, (middle, above) in enumerate(zip(middles, high)):
        axes.annotate(
            f"{middle:,.3g}" if middle < 1000 else f"{middle:,.0f}",
            (middle + above, position), (4, 0), textcoords="offset points", va="center",
        )  # fmt: skip
    axes.margins(x=0.18)
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)


def save(figure: Any, name: str) -> None:
    """Write the picture, which takes its background from the page, and lighter ink where that is dark."""
    figure.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"bench-{name}.svg"
    figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = file.read_text(encoding="utf-8")
    rules = f"text{{fill:{DARK}!important}}[style*='{INK}']{{stroke:{DARK}!important}}"
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    text = re.sub(r"(<svg[^>]*>)", rf"\1{style}", text, count=1)
    file.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def of_hits(tape: Workload) -> None:
    """One thread on real connections, and eight."""
    one = tape.get(hits.one_thread("psycopg2"), hits.CPU)
    eight = tape.get(hits.many_threads(8, "psycopg2"), hits.RATE)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    bars(left, one, "getconn + putconn, 1 thread, psycopg2: ns (log)", log=True)
    bars(right, eight, "8 threads on 8, psycopg2: per second (log)", log=True)
    save(figure, "hits")


def of_contention(tape: Workload) -> None:
    """Throughput by ours, and Jain's index, of each peer in each cell."""
    cases = [case for case in tape.cases() if "nothing held" not in case]
    names = list(dict.fromkeys(name for case in cases for name in tape.get(case, contention.RATE).samples))
    figure, (top, below) = plt.subplots(2, 1, figsize=(11, 6.4), sharex=True)
    marks = "osD^vP*XhH<>"
    for number, name in enumerate(names):
        there = [case for case in cases if name in tape.get(case, contention.RATE).samples]
        rates = [tape.get(case, contention.RATE) for case in there]
        ratios = [
            [mine / our for mine, our in zip(each.samples[name], each.samples["dbpool Threaded"])] for each in rates
        ]
        middles = [sorted(each)[len(each) // 2] for each in ratios]
        spread = [
            [middle - min(each) for middle, each in zip(middles, ratios)],
            [max(each) - middle for middle, each in zip(middles, ratios)],
        ]
        words: dict[str, Any] = {"color": colour(name), "marker": marks[number % len(marks)], "linestyle": "none"}
        shift = (number - len(names) / 2) * 0.07
        places = [cases.index(case) + shift for case in there]
        top.errorbar(places, middles, yerr=spread, capsize=2, label=name, **words)
        below.plot(places, [tape.get(case, contention.JAIN).median(name) for case in there], **words)
    top.set_title("operations per second / dbpool's")
    top.legend(ncols=3, loc="upper left", fontsize=8)
    top.set_ylim(0, top.get_ylim()[1] * 1.35)
    below.set_title("Jain's index: 1 is fair to all threads, 1/n serves only one")
    below.set_xticks(range(len(cases)), [case.replace(", ", "\n").replace(" threads", "") for case in cases])
    save(figure, "contention")


def of_opening(tape: Workload) -> None:
    """Growth, and the burst with what it opened."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    bars(axes[0], tape.get(opening.GROWTH, opening.SERVED), "8 callers, connect takes 100 ms: ms", log=True)
    bars(axes[1], tape.get(opening.BURST, opening.SERVED), "burst of 50, connect 150 ms: ms", log=True)
    bars(axes[2], tape.get(opening.BURST, opening.OPENED), "... connections opened")
    save(figure, "opening")


def of_end_to_end(tape: Workload) -> None:
    """From the median to the 99th percentile, and a crowd."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6))
    place = f"{end_to_end.SELECT}, PostgreSQL"
    for axis, measure in zip(axes, (end_to_end.P50, end_to_end.P99)):
        bars(axis, tape.get(place, measure), f"SELECT 1 and commit, {measure}: us")
    bars(axes[2], tape.get(end_to_end.CROWD, end_to_end.RATE), "8 threads on 4: per second")
    save(figure, "end-to-end")


def of_memory(tape: Workload) -> None:
    """Bytes of a connection and of a waiter, and the import."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2))
    bars(axes[0], tape.get(memory.IDLE, memory.BYTES), "an idle connection: bytes")
    bars(axes[1], tape.get(memory.WAITER, memory.BYTES), "a waiting thread: bytes")
    bars(axes[2], tape.get(memory.IMPORT, memory.CPU), "import: ms of CPU")
    save(figure, "memory")


def of_tasks(tape: Workload) -> None:
    """What asyncio has of it."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 3.6))
    bars(axes[0], tape.get(tasks.REAL_HITS, tasks.CPU_OF_HIT), "get and put, real connections: ns", log=True)
    bars(axes[1], tape.get(tasks.CROWD, tasks.RATE), "1000 tasks on 10, 1 ms: per second")
    bars(axes[2], tape.get(tasks.SELECT, tasks.RATE), "8 on 4, SELECT 1: per second")
    save(figure, "asyncio")


def draw(results: Results) -> None:
    """Draw what there are results of."""
    parts = {
        "hits": of_hits,
        "contention": of_contention,
        "opening": of_opening,
        "end_to_end": of_end_to_end,
        "memory": of_memory,
        "tasks": of_tasks,
    }
    with mpl.rc_context(STYLE):
        for name, part in parts.items():
            if name in results:
                part(results[name])


if __name__ == "__main__":
    from benchmarks.results import load

    draw(load()[0])
