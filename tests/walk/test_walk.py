"""The walk itself: every order of the steps of the shipped core, in each setting, and nothing is ever lost."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from .explorer import explore
from .pool_under_walk import walked_functions
from .settings import BY_DAY, BY_NIGHT, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .run import Result

pytestmark = [
    pytest.mark.walk,
    pytest.mark.timeout(900),
]
SLOW = {"drain", "dropped", "timeout", "put(close)", "broken put"}
Row = tuple[str, str, int, int, int, float, str]


def walk(job: Job) -> Row:
    """Explore one setting; runs in a process of its own."""
    setting, bound = job
    return row_of(setting, explore(setting.scenario(), bound=bound, reduced=True))


def walk_loop(job: Any) -> Row:
    """Explore one setting of the event loop; runs in a process of its own."""
    setting, bound = job
    return row_of(setting, setting.explored(bound))


def row_of(setting: Any, result: Result) -> Row:
    path = "" if result.violation is None else str(result.violation)
    return setting.name, result.verdict, result.states, result.transitions, result.depth, result.seconds, path


def name_of(job: Any) -> str:
    return job[0].name if job[1] is None else f"{job[0].name}, bound {job[1]}"


def begin(jobs: list[Any], walk: Callable[[Any], Row] = walk) -> Iterator[dict[str, Future[Row]]]:
    """Start to explore all, on as many processes as there are cores; the largest first."""
    largest_first = sorted(jobs, key=lambda job: (len(job[0].clients) == 2, job[0].idle, not {*job[0].clients} & SLOW))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=spawn) as workers:
        yield {name_of(job): workers.submit(walk, job) for job in largest_first}


@pytest.fixture(scope="module")
def by_day() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_DAY)


@pytest.fixture(scope="module")
def by_night() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_NIGHT)


def check(job: Any, row: Row, rows: list[Row]) -> None:
    rows.append((name_of(job), *row[1:]))
    assert not row[-1], row[-1]
    assert row[1] == ("complete" if job[1] is None else f"bounded k={job[1]}")
    assert row[2] > 3


@pytest.mark.parametrize("job", BY_DAY, ids=name_of)
def test_no_order_of_steps_loses_anything(job: Job, by_day: Any, request: pytest.FixtureRequest) -> None:
    check(job, by_day[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


@pytest.mark.nightly
@pytest.mark.parametrize("job", BY_NIGHT, ids=name_of)
def test_no_order_of_steps_loses_anything_by_night(job: Job, by_night: Any, request: pytest.FixtureRequest) -> None:
    check(job, by_night[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


def test_the_shipped_functions_are_the_ones_that_are_walked() -> None:
    names = {name.rpartition(".")[2] for name in walked_functions()}
    assert names >= {
        "getconn", "putconn", "match", "arrive", "depart", "adopt", "fail", "hand_back", "drain", "seize", "shut",
        "set_limits", "_obtain", "_await", "_settle", "_abandon", "_dismiss", "_finish", "_connect_for", "_reap",
        "_serve", "_give", "_offer", "_shrink", "_trim", "close", "resize",
    }  # fmt: skip
