"""The schedules of tests/schedules, fewer of them, and the same each time."""

from __future__ import annotations

import logging

import pytest
from schedules.exploring import exhaust, explore
from schedules.programs import SMALL

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of dropped connections


@pytest.fixture(autouse=True)
def _in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "dbpool")


@pytest.mark.parametrize("name", SMALL)
def test_all_schedules_of_a_small_program_with_one_preemption(name: str) -> None:
    exhaust(name, SMALL[name], 1, seconds=1.0)


@pytest.mark.parametrize("kind", ["random", "pct"])
def test_random_programs(kind: str) -> None:
    explore(kind, 1.0, first=1)
