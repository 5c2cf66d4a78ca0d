"""The walk over many endpoints under one total: no order of the loop exceeds it, strands anybody or loses a slot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from .endpoints_planted import BUGS
from .endpoints_settings import BY_DAY, BY_NIGHT, Job
from .loop_planted import planted
from .test_walk import Row, begin, check, name_of, walk_loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

pytestmark = [
    pytest.mark.walk,
    pytest.mark.timeout(3600 if os.environ.get("DBPOOL_NIGHTLY") == "1" else 600),
]


@pytest.fixture(scope="module")
def by_day() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_DAY, walk_loop)


@pytest.fixture(scope="module")
def by_night() -> Iterator[dict[str, Future[Row]]]:
    yield from begin(BY_NIGHT, walk_loop)


@pytest.mark.parametrize("job", BY_DAY, ids=name_of)
def test_no_order_over_endpoints_loses_anything(job: Job, by_day: Any, request: pytest.FixtureRequest) -> None:
    check(job, by_day[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


@pytest.mark.nightly
@pytest.mark.parametrize("job", BY_NIGHT, ids=name_of)
def test_no_order_over_endpoints_loses_anything_by_night(
    job: Job, by_night: Any, request: pytest.FixtureRequest
) -> None:
    check(job, by_night[name_of(job)].result(), request.config.walked)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_what_keeps_the_total_is_found(name: str) -> None:
    wrong, setting = BUGS[name]
    with planted(wrong):
        found = setting.explored(max_states=5000)
    assert found.verdict == "violation", found
    print(f"{name}: {found}")
    assert found.violation.path  # type: ignore[union-attr]


def test_there_are_at_least_eight() -> None:
    assert len(BUGS) >= 8
