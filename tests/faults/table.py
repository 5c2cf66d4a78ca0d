"""A pytest plugin (`-p faults.table`): which row of the catalogue passed, in how many tests and seconds."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Row:
    """What became of a row's tests."""

    outcomes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def word(self) -> str:
        if "failed" in self.outcomes:
            return "FAILED"
        return "passed" if "passed" in self.outcomes else "skipped" if self.outcomes else "MISSING"


rows: dict[int, Row] = defaultdict(Row)
_of: dict[str, set[int]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where the table is written to."""
    parser.addoption("--fault-json", metavar="FILE", help="write the fault table to FILE")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that prove a row."""
    for item in items:
        _of[item.nodeid] = {row for mark in item.iter_markers("fault") for row in mark.args}
    others = [item for item in items if not _of[item.nodeid]]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if _of[item.nodeid]]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test for each of its rows: its seconds, fixtures aside, and what became of it."""
    for number in _of.get(report.nodeid, ()):
        if report.when == "call":
            rows[number].seconds += report.duration
        if report.when == "call" or report.outcome != "passed":
            rows[number].outcomes.append(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A row that no test has is a failure, unless only some tests were asked for."""
    if not session.config.option.keyword and any(rows[number].word == "MISSING" for number in ROWS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def lines() -> Iterator[str]:
    """Yield the table, in Markdown."""
    yield "| row | fault | | tests | seconds |"
    yield "| ---: | --- | --- | ---: | ---: |"
    for number, name in ROWS.items():
        row = rows[number]
        yield f"| {number} | {name} | {row.word} | {len(row.outcomes)} | {row.seconds:.2f} |"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table; write it, if that was asked for."""
    terminalreporter.section("fault table")
    for line in lines():
        terminalreporter.write_line(line)
    passed = sum(rows[number].word == "passed" for number in ROWS)
    terminalreporter.write_line(f"{passed} of {len(ROWS)} rows passed")
    if config.option.fault_json:
        told = {
            number: {
                "fault": name,
                "outcome": rows[number].word,
                "tests": len(rows[number].outcomes),
                "seconds": round(rows[number].seconds, 3),
            }
            for number, name in ROWS.items()
        }
        Path(config.option.fault_json).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
