"""Writes the figures of the committed results into READMEs and documents, between two marks; `make bench` ends so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import figures
from benchmarks.results import load
from benchmarks.tables import number
from benchmarks.words import FIGURES, WORDS
from benchmarks.work import contention, end_to_end, hits, memory, opening, tasks

if TYPE_CHECKING:
    from benchmarks.results import Results, Series

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- the figures of benchmarks/results -->", "<!-- their end -->"
FILES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
PAGES = {language: ROOT / "docs" / language / "measured.md" for language in FILES}
LEVEL = 0.03  # nobody is ahead by so little
PICTURES = ("hits", "contention", "opening", "end-to-end", "memory", "asyncio")


@dataclass(frozen=True)
class Row:
    """One line of the table: a series, and which of its peers is ours."""

    key: str  # of its words
    workload: str
    case: str
    measure: str
    ours: str

    def series(self, results: Results) -> Series | None:
        """Return it, if it was measured."""
        try:
            return results[self.workload].get(self.case, self.measure)
        except KeyError:
            return None


def _cell(name: str) -> str:
    return next(cell.name for cell in contention.CELLS if cell.name == name)


LITTLE, MANY = _cell("32 threads on 4, 1 ms held"), _cell("512 threads on 16, 1 ms held")
SELECT = f"{end_to_end.SELECT}, PostgreSQL"
THREADED, TWIN = "dbpool Threaded", "dbpool twin Threaded"
ROWS = (
    Row("hit", "hits", hits.one_thread("psycopg2"), hits.CPU, TWIN),
    Row("hits", "hits", hits.many_threads(8, "psycopg2"), hits.RATE, TWIN),
    Row("crowd", "contention", LITTLE, contention.RATE, THREADED),
    Row("jain", "contention", LITTLE, contention.JAIN, THREADED),
    Row("longest", "contention", LITTLE, contention.MOST, THREADED),
    Row("many", "contention", MANY, contention.RATE, THREADED),
    Row("growth", "opening", opening.GROWTH, opening.SERVED, THREADED),
    Row("burst", "opening", opening.BURST, opening.SERVED, THREADED),
    Row("opened", "opening", opening.BURST, opening.OPENED, THREADED),
    Row("p50", "end_to_end", SELECT, end_to_end.P50, f"{TWIN} (psycopg2)"),
    Row("p99", "end_to_end", SELECT, end_to_end.P99, f"{TWIN} (psycopg2)"),
    Row("asking", "end_to_end", end_to_end.CROWD, end_to_end.RATE, f"{TWIN} (psycopg2)"),
    Row("idle", "memory", memory.IDLE, memory.BYTES, THREADED),
    Row("waiter", "memory", memory.WAITER, memory.BYTES, THREADED),
    Row("import", "memory", memory.IMPORT, memory.CPU, "dbpool"),
    Row("task", "tasks", tasks.REAL_HITS, tasks.CPU_OF_HIT, "dbpool Async (asyncpg)"),
    Row("tasks", "tasks", tasks.CROWD, contention.RATE, "dbpool Async"),
)
COLUMNS = (("psycopg2.pool Threaded", "psycopg2.pool + Semaphore", "psycopg2.pool"), ("psycopg_pool",))


def best_peer(series: Series) -> str:
    """Return the best that is not ours; without a name, there is none."""
    return next((name for name in series.ordered() if not name.startswith("dbpool")), "")


def verdict(series: Series, ours: str, peer: str) -> str:
    """Return ahead, level or behind."""
    mine, theirs = series.median(ours), series.median(peer)
    if abs(mine - theirs) <= LEVEL * max(abs(mine), abs(theirs)):
        return "level"
    return "ahead" if (mine < theirs) == series.lower else "behind"


def found_of(series: Series, names: tuple[str, ...]) -> str:
    """Return the value of the first of these that was measured, whatever its driver."""
    for name in names:
        for measured in series.samples:
            if measured == name or measured.startswith((f"{name} (", f"{name} async")):
                return number(series.median(measured))
    return ""


def fairness(results: Results, row: Row, peer: str) -> str:
    """Return Jain's index of a peer beside its throughput under contention; nothing for other figures."""
    if row.measure != contention.RATE or row.case == end_to_end.CROWD:
        return ""
    return f", Jain {results[row.workload].get(row.case, contention.JAIN).median(peer):.2f}"


def section(results: Results, about: dict[str, Any], language: str) -> str:
    """Return what stands between the marks."""
    words, behind = WORDS[language], []
    lines = [words["head"], "| --- | ---: | ---: | ---: | ---: | --- |"]
    for row in ROWS:
        series = row.series(results)
        if series is None or row.ours not in series.samples or not best_peer(series):
            continue
        peer, what = best_peer(series), words[row.key]
        ours, theirs = number(series.median(row.ours)), number(series.median(peer))
        fair = fairness(results, row, peer)
        word = verdict(series, row.ours, peer)
        others = [found_of(series, names) for names in COLUMNS]
        lines.append(f"| {what} | {ours} | {' | '.join(others)} | {theirs} ({peer}{fair}) | {words[word]} |")
        if word == "behind":
            behind.append(words["line"].format(what=what, peer=peer + fair, theirs=theirs, ours=ours))
    machine = about["machine"]
    measured = words["measured"].format(**machine)
    losses = [words["not"], "", *behind] if behind else [words["none"]]
    pictures = [f"![{name}](docs/images/bench-{name}.svg)" for name in PICTURES]
    return "\n".join([measured, "", *lines, "", *losses, "", *pictures])


def promised(results: Results, about: dict[str, Any], language: str) -> str:
    """Return the table of what was promised and what was measured."""
    words = WORDS[language]
    lines = [words["promised"], "| --- | ---: | ---: | --- | --- |"]
    for line in figures.lines(results):
        what = line.what if language == "en" else FIGURES[line.what]
        met = {True: "", False: words["missed"], None: words["unmeasured"]}[line.met]
        lines.append(f"| {what} | {line.must} | {line.value} | {met} | {line.detail} |")
    return "\n".join([words["measured"].format(**about["machine"]), "", *lines])


def pages() -> list[tuple[Path, str, Any]]:
    """Return each file that has figures, its language, and what writes them."""
    return [
        *((file, language, section) for language, file in FILES.items()),
        *((file, language, promised) for language, file in PAGES.items()),
    ]


def filled(text: str, written: str) -> str:
    """Return the page with what stands between the marks."""
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    return marked.sub(lambda _: f"{BEGIN}\n{written}\n{END}", text)


def fill() -> None:
    """Write all pages."""
    results, about = load()
    for file, language, write in pages():
        text = file.read_text(encoding="utf-8")
        file.write_text(filled(text, write(results, about, language)), encoding="utf-8")


if __name__ == "__main__":
    fill()
