"""Random sequences of events, compared with the reference after each; and planted bugs, which must be found."""

from __future__ import annotations

import gc
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import dbpool.core

from .planted import (
    BUGS,
    LIMITERS,
    ForgetsAKeyWhenItIsPut,
    FreesTheSlotBeforeTheClose,
    LosesTheSlotOfAFailedConnect,
    OpensTheGateBesideTheQueue,
    ServesTheDeparted,
    ServesTheLastFirst,
)
from .simple_machine import AwaitedMachine, SimpleMachine
from .state_machine import StateMachine
from .task_machine import TaskMachine
from .total_machine import TotalMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "model", max_examples=500, stateful_step_count=50, deadline=None, print_blob=True, report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink], suppress_health_check=[HealthCheck.too_slow],
    # By day the same sequences each time, by night new ones.
    derandomize=os.environ.get("DBPOOL_NIGHTLY") != "1", database=None,
)  # fmt: skip
PROFILE = settings.get_profile("model")
QUICK = settings(PROFILE, max_examples=5000, phases=[Phase.generate], database=None)
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of dropped connections
    pytest.mark.timeout(600),  # a failure is made smaller first; and without the GIL all takes three times as long
]


@pytest.fixture(autouse=True)
def _many_are_dropped(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Some connections in cycles: let gc.collect() look only at what the test made."""
    caplog.set_level(logging.CRITICAL, "dbpool")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("machine", [StateMachine, SimpleMachine, AwaitedMachine, TaskMachine, TotalMachine])
def test_the_pool_does_what_the_reference_says(machine: Any) -> None:
    run_state_machine_as_test(machine, settings=PROFILE)
    print(f"\n{machine.__name__}: {machine.examples} examples, {machine.steps} steps")
    assert machine.examples >= PROFILE.max_examples


def fails(machine: Any) -> str:
    """Run it until it fails, and say when."""
    with pytest.raises((AssertionError, AttributeError, LookupError)):
        run_state_machine_as_test(machine, settings=QUICK)
    return f"found in example {machine.examples}, step {machine.steps}"


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_state_is_found(bug: Any) -> None:
    machine = type("Planted", (StateMachine,), {"state_class": bug, "examples": 0, "steps": 0})
    print(f"\n{bug.__name__}: {fails(machine)}")


@pytest.mark.parametrize("machine", [SimpleMachine, AwaitedMachine])
@pytest.mark.parametrize("bug", [ForgetsAKeyWhenItIsPut, FreesTheSlotBeforeTheClose, LosesTheSlotOfAFailedConnect])
def test_a_bug_is_found_through_the_public_methods(machine: Any, bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbpool.core, "PoolState", bug)
    machine = type("Planted", (machine,), {"examples": 0, "steps": 0})
    print(f"\n{bug.__name__}: {fails(machine)}")


@pytest.mark.parametrize("bug", [ServesTheLastFirst, ServesTheDeparted, OpensTheGateBesideTheQueue])
def test_a_bug_is_found_by_tasks_that_wait(bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbpool.core, "PoolState", bug)
    machine = type("Planted", (TaskMachine,), {"examples": 0, "steps": 0})
    print(f"\n{bug.__name__}: {fails(machine)}")


@pytest.mark.parametrize("bug", LIMITERS)
def test_a_bug_in_the_limiter_is_found(bug: Any) -> None:
    machine = type("Planted", (TotalMachine,), {"limiter_class": bug, "examples": 0, "steps": 0})
    print(f"\n{bug.__name__}: {fails(machine)}")
