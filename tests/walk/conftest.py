"""Prints what was walked: states, transitions, and whether that is all of them."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.walked = []  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def _a_place_for_the_table(request: pytest.FixtureRequest) -> None:
    if not hasattr(request.config, "walked"):
        request.config.walked = []  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = getattr(config, "walked", [])
    if not rows:
        return
    terminalreporter.section("the walk")
    for name, verdict, states, transitions, depth, seconds, _ in rows:
        counts = f"{states:>9,} states {transitions:>10,} transitions, depth {depth:>3}"
        terminalreporter.line(f"{name:<60} {verdict:<12} {counts}, {seconds:5.1f} s")
    states, transitions = sum(row[2] for row in rows), sum(row[3] for row in rows)
    terminalreporter.line(f"{len(rows)} settings, {states:,} states, {transitions:,} transitions")
