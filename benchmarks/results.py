"""What was measured: a sample for each peer and round, kept as JSON; medians and ratios are worked out from it."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable

FOLDER = Path(__file__).parent / "results"
DISTRIBUTIONS = (
    "psycopg2-binary", "ksycopg2", "psycopg", "psycopg-pool", "SQLAlchemy", "DBUtils", "generic-connection-pool",
    "asyncpg", "aiopg", "pooling", "peewee", "mysql-connector-python",
)  # fmt: skip


@dataclass
class Series:
    """One measure of one case of a workload: a sample of each peer in every round."""

    case: str
    measure: str
    unit: str
    lower: bool = True  # is better
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return the middle of all rounds."""
        return statistics.median(self.samples[name])

    def spread(self, name: str) -> tuple[float, float]:
        """Return the quartiles; with few rounds, the least and the most."""
        values = sorted(self.samples[name])
        if len(values) < 4:
            return values[0], values[-1]
        low, _, high = statistics.quantiles(values, n=4)
        return low, high

    def ratio(self, name: str, other: str) -> float:
        """Return the median of the ratios of both, round by round: what disturbed a round disturbed both."""
        pairs = [(mine, their) for mine, their in zip(self.samples[name], self.samples[other]) if their]
        return statistics.median(mine / their for mine, their in pairs)

    def ordered(self) -> list[str]:
        """Return the peers, the best first."""
        return sorted(self.samples, key=self.median, reverse=not self.lower)


@dataclass
class Workload:
    """The series of one workload, and what was left out."""

    name: str
    title: str
    series: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, case: str, measure: str, unit: str, samples: dict[str, list[float]], lower: bool = True) -> Series:
        """Note one series; what is worked out of it before it is saved and after it was loaded is the same."""
        kept = {name: [rounded(value) for value in values] for name, values in samples.items()}
        self.series.append(Series(case, measure, unit, lower, kept))
        return self.series[-1]

    def get(self, case: str, measure: str) -> Series:
        """Return one series."""
        for each in self.series:
            if (each.case, each.measure) == (case, measure):
                return each
        raise KeyError(f"{self.name}: no {measure!r} of {case!r}")

    def cases(self) -> list[str]:
        """Return the cases, in the order in which they were measured."""
        return list(dict.fromkeys(each.case for each in self.series))


Results = dict[str, Workload]


def interleaved(runs: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run all in turn, *rounds* times, beginning with another one each time; return measure -> peer -> samples."""
    found: dict[str, dict[str, list[float]]] = {}
    names = list(runs)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            for measure, value in runs[name]().items():
                found.setdefault(measure, {}).setdefault(name, []).append(value)
    return {measure: {name: by[name] for name in names if name in by} for measure, by in found.items()}


def machine() -> dict[str, Any]:
    """Return what everything was measured with."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def rounded(value: float) -> float:
    """Return *value* with five digits that count, so that the files stay small."""
    return float(f"{value:.5g}")


def save(results: Results, about: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write a file for each workload, and one about the run."""
    folder.mkdir(parents=True, exist_ok=True)
    for workload in results.values():
        series = [
            {
                "case": each.case,
                "measure": each.measure,
                "unit": each.unit,
                "lower_is_better": each.lower,
                "samples": each.samples,
            }
            for each in workload.series
        ]
        words = {"title": workload.title, "notes": workload.notes, "series": series}
        _write(folder / f"{workload.name}.json", words)
    _write(folder / "run.json", about)


def _write(file: Path, words: Any) -> None:
    """Write it indented, but each list of numbers in one line."""
    text = json.dumps(words, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[\d\s.,e+-]+\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
    file.write_text(text + "\n", encoding="utf-8")


def load(folder: Path = FOLDER) -> tuple[Results, dict[str, Any]]:
    """Read what save() wrote."""
    found: Results = {}
    about: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        words = json.loads(file.read_text(encoding="utf-8"))
        if file.stem == "run":
            about = words
        elif "series" in words:
            workload = found[file.stem] = Workload(file.stem, words["title"], notes=words["notes"])
            for each in words["series"]:
                workload.add(each["case"], each["measure"], each["unit"], each["samples"], each["lower_is_better"])
    return found, about
