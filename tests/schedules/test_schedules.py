"""The threaded pool under many schedules; and planted bugs, which must be found. Seeds of failures are printed."""

from __future__ import annotations

import logging
import os
from random import SystemRandom

import pytest

from .exploring import ScheduleFailed, exhaust, explore, repeat
from .planting import planted
from .programs import SMALL

SCALE = float(os.environ.get("DBPOOL_SCHEDULES", "1"))  # of the seconds spent, but for planted bugs
REPEATED = os.environ.get("DBPOOL_SCHEDULE_SEED", "")
SECONDS = 15.0  # of the processor, for each strategy
SECONDS_SMALL = 2.0  # for each small program; most are complete for one preemption before
pytestmark = [
    pytest.mark.schedules,
    pytest.mark.timeout(600 + 2 * SECONDS * SCALE),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of dropped connections
]

# Each is known by what it does; the module, and texts in its source with what is planted instead.
BUGS = {
    "a put looks at the gate before it appends": ("dbpool.abstract", [
        ("self._idle.append(conn)", "gate = self._state.gate; self._idle.append(conn)"),
        ("if self._state.gate:  # after the append, never before", "if gate:"),
    ]),
    "the gate is cleared for a moment": ("dbpool.state", [
        ("todo = Todo()", "todo = Todo(); self.gate = False"),
    ]),
    "who has queued up does not look again": ("dbpool.shell", [
        ("            todo = self._state.match(uptime())\n        if self._do(todo, aside=waiter.patient):",
         "        if 0:"),
    ]),
    "a slot is free before its connection is closed": ("dbpool.core", [
        ("in_time = self._opener.close(conn)\n        finally:",
         "self._state.lost.append(entry); self._settle(); self._opener.close(conn)\n        finally:"),
    ]),
    "who is served is not woken": ("dbpool.state", [
        ("waiter.wake()\n            self.waiters.leave(waiter)\n            if waiter.ticket",
         "pass\n            self.waiters.leave(waiter)\n            if waiter.ticket"),
    ]),
    "the last close tells nobody": ("dbpool.state", [
        ("closer.wake()", "pass"),
    ]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_silence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "dbpool")


@pytest.mark.skipif(not REPEATED, reason="DBPOOL_SCHEDULE_SEED names no schedule to repeat")
def test_one_schedule_again() -> None:
    print(f"\n{repeat(REPEATED, SMALL)}")


@pytest.mark.skipif(bool(REPEATED), reason="one schedule is repeated")
@pytest.mark.parametrize("kind", ["random", "pct"])
def test_random_programs(kind: str) -> None:
    first = SystemRandom().randrange(10**9)
    print(f"\nfrom seed {first}, {explore(kind, SECONDS * SCALE, first)}")


@pytest.mark.skipif(bool(REPEATED), reason="one schedule is repeated")
@pytest.mark.parametrize("name", SMALL)
def test_all_schedules_of_a_small_program(name: str) -> None:
    preemptions, complete = 0, True
    left = SECONDS_SMALL * SCALE
    while complete and left > 0:
        preemptions += 1
        figures, complete = exhaust(name, SMALL[name], preemptions, left)
        left -= figures.seconds
        print(f"\n{figures}, {'complete' if complete else 'bounded'}", end="")


@pytest.mark.skipif(bool(REPEATED), reason="one schedule is repeated")
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str) -> None:
    module, changes = BUGS[bug]
    with planted(module, *changes):
        with pytest.raises(ScheduleFailed) as found:
            look_for_failures()
        with pytest.raises(ScheduleFailed) as again:
            repeat(found.value.name, SMALL)
    assert str(found.value).splitlines()[1:] == str(again.value).splitlines()[1:]
    print(f"\n{bug}: {found.value}")


def look_for_failures() -> None:
    """Look for a bug with every strategy: first shortly, then as long as a run without a failure does, then longer."""
    for share in (0.2, 1.0, 4.0):
        for name, program in SMALL.items():
            exhaust(name, program, 2, share * SECONDS_SMALL)
        for kind in ("random", "pct"):
            explore(kind, share * SECONDS, 1)
