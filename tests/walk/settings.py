"""Which settings are walked by day and by night, and within which bound."""

from __future__ import annotations

from typing import Optional

from .scenarios import OPERATIONS, Setting, pairs

Job = tuple[Setting, Optional[int]]  # and how many preemptions are allowed; None: no limit
BOUND = 2


def pair(first: str, second: str) -> Setting:
    """Two operations on one connection; a pool to shrink has two."""
    size = 2 if "shrink" in (first, second) else 1
    return Setting((first, second), maxconn=size, idle=size)


ALL_PAIRS = [pair(*names) for names in pairs(OPERATIONS)]
COMPLETE = [
    pair(*names)
    for names in (
        ("get", "get"), ("get", "keyed"), ("get", "timeout 0"), ("keyed", "keyed"), ("get", "grow"),
        ("closeall", "get"), ("close", "get"), ("broken put", "closeall"), ("get", "shrink"),
    )
]  # fmt: skip
SPECIAL = [
    Setting(("get", "timeout"), interrupts=True),
    Setting(("drain", "timeout"), interrupts=True),
    Setting(("get", "get"), options=(("idle_timeout", 0),)),
]
LARGE = [
    Setting(("get", "get"), idle=0),
    Setting(("get", "get"), idle=0, failures=1),
    Setting(("get", "get", "get")),
    Setting(("get", "get", "timeout")),
    Setting(("dropped", "get", "get")),
]
BY_DAY: list[Job] = [(setting, None) for setting in COMPLETE] + [(setting, BOUND) for setting in SPECIAL]
BY_NIGHT: list[Job] = [(setting, None) for setting in ALL_PAIRS if setting not in COMPLETE] + [
    (setting, BOUND) for setting in LARGE
]
