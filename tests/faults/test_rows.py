"""Tests that every row of the fault catalogue has a test, and that no test claims a row that is not there."""

from __future__ import annotations

import ast
from pathlib import Path

from .rows import ROWS

TESTS = Path(__file__).parents[1]


def claimed() -> set[int]:
    """Return the rows that a `@pytest.mark.fault(...)` anywhere under tests/ names."""
    return {
        argument.value
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def test_every_row_has_a_test_and_every_claim_a_row() -> None:
    assert claimed() == set(ROWS)
