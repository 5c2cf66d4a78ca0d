"""Gives the tests of top a monitor that says what it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from top.stage import Stage, a_monitor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_monitor() as found:
        yield found
