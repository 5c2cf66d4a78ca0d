"""The walk of the event loop: every order of its callbacks and of a driver's answers, and a cancel at each step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from .loop_driver import LoopWorld
from .loop_planted import BUGS, planted
from .loop_scenarios import LoopSetting
from .loop_settings import BY_DAY, BY_NIGHT, Job
from .test_walk import Row, begin, check, name_of, walk_loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

pytestmark = [
    pytest.mark.walk,
    pytest.mark.timeout(1800 if os.environ.get("DBPOOL_NIGHTLY") == "1" else 600),
]


@pytest.fixture(scope="module")
def by_day() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_DAY, walk_loop)


@pytest.fixture(scope="module")
def by_night() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_NIGHT, walk_loop)


@pytest.mark.parametrize("job", BY_DAY, ids=name_of)
def test_no_order_of_the_loop_loses_anything(job: Job, by_day: Any, request: pytest.FixtureRequest) -> None:
    check(job, by_day[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


@pytest.mark.nightly
@pytest.mark.parametrize("job", BY_NIGHT, ids=name_of)
def test_no_order_of_the_loop_loses_anything_by_night(job: Job, by_night: Any, request: pytest.FixtureRequest) -> None:
    check(job, by_night[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


# ---- can it fail? ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_the_asynchronous_shell_is_found(name: str) -> None:
    wrong, setting = BUGS[name]
    with planted(wrong):
        found = setting.explored()
        assert found.verdict == "violation", found
        print(f"{name}: {found}")
    assert found.violation.path  # type: ignore[union-attr]


def test_there_are_at_least_ten() -> None:
    assert len(BUGS) >= 10


def test_every_choice_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks in any order, answers in any order, failures, cancels, and the passing of time."""
    made: set[Any] = set()
    advance = LoopWorld.advance
    monkeypatch.setattr(LoopWorld, "advance", lambda world, choice: made.add(choice) or advance(world, choice))
    LoopSetting(("get", "timeout"), idle=0, cancels=1, times=1, failures=1).explored(max_states=2000)
    assert {what for what, _ in made} == {"run", "ends", "fails", "cancel", "time"}
    assert ("run", 2) in made
