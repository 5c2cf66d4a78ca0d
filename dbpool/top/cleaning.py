"""Cleaning: what a monitor says is a stranger's: nothing of it may move the cursor, be endless, or be no number."""

from __future__ import annotations

import math
from typing import Any

from dbpool.escaping import escaped

LONGEST_TEXT, LONGEST_LIST, DEEPEST = 2_000, 20_000, 12


def clean(value: Any, depth: int = 0) -> Any:
    """Return *value*, which came as JSON, with texts escaped and cut, numbers finite, and lists of bounded length."""
    if depth > DEEPEST:
        return None
    if isinstance(value, str):
        return escaped(value[:LONGEST_TEXT])
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if isinstance(value, bool) or abs(value) < 1 << 53 else None
    if isinstance(value, list):
        return [clean(each, depth + 1) for each in value[:LONGEST_LIST]]
    if isinstance(value, dict):
        return {
            escaped(name[:LONGEST_TEXT]): clean(each, depth + 1) for name, each in list(value.items())[:LONGEST_LIST]
        }
    return None


def at(document: Any, *path: str) -> Any:
    """Return what is found on the way through *document*; None where there is nothing."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def number(document: Any, *path: str) -> float | None:
    """Return a number; None if there is none."""
    found = at(document, *path)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def count(document: Any, *path: str) -> int:
    """Return a whole number, 0 if there is none."""
    return int(number(document, *path) or 0)


def text(document: Any, *path: str) -> str:
    """Return a text; an empty one if there is none."""
    found = at(document, *path)
    return found if isinstance(found, str) else ""


def rows(document: Any, *path: str) -> list[dict[str, Any]]:
    """Return a list's dicts."""
    found = at(document, *path)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def numbers(document: Any, *path: str) -> list[float | None]:
    """Return a series; None where there is no number."""
    found = at(document, *path)
    series = found if isinstance(found, list) else []
    return [each if isinstance(each, (int, float)) and not isinstance(each, bool) else None for each in series]
