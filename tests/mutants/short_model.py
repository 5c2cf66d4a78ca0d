"""The random sequences of tests/model, fewer of them, and a failure is not made smaller."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from model.simple_machine import SimpleMachine
from model.state_machine import StateMachine
from model.test_stateful import PROFILE

SHORT = settings(PROFILE, max_examples=100, phases=[Phase.generate], database=None)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of dropped connections


@pytest.mark.parametrize("machine", [StateMachine, SimpleMachine])
def test_the_pool_does_what_the_reference_says(machine: Any) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
    assert machine.examples >= SHORT.max_examples
