"""The walk can fail: bugs planted in shipped lines are found by it alone, and it tells the way there."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from .explorer import explore, shortest
from .planted import BUGS

pytestmark = [
    pytest.mark.walk,
    pytest.mark.timeout(600),
    # A run that is left in the midst of a wrong pool may not unwind.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ENOUGH = 50_000  # states
# Breadth first, which gives the shortest path, is slow where many threads begin at once: by night it may take its time.
SECONDS = 300.0 if os.environ.get("DBPOOL_NIGHTLY") == "1" else 5.0


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    patch, setting = BUGS[name]
    scenario = replace(setting, patch=patch).scenario()
    found = explore(scenario, max_states=ENOUGH, reduced=True)
    assert found.verdict == "violation", found
    short = shortest(scenario, max_seconds=SECONDS, reduced=True)
    word = "shortest path" if short.violation else "a path (the shortest takes longer to find)"
    print(f"{name}: {word}\n{short if short.violation else found}")
    assert (short if short.violation else found).violation.path  # type: ignore[union-attr]


def test_there_are_at_least_twelve() -> None:
    assert len(BUGS) >= 12
