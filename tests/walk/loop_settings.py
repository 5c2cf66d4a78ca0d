"""Which settings of the loop's walk are walked by day and by night."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from .loop_scenarios import OPERATIONS, LoopSetting
from .scenarios import pairs


def setting(*clients: str, **more: Any) -> LoopSetting:
    """Some operations on one connection, or on two if the pool is to shrink. A time-out may pass."""
    size = 2 if "shrink" in clients else 1
    times = 1 if "timeout" in clients else 0
    return LoopSetting(clients, **{"maxconn": size, "idle": size, "times": times, **more})


PINGED = (("ping_after", 0),)  # at each get
PAIRS = [setting(*names) for names in pairs(OPERATIONS)]
CANCELLED = [replace(each, cancels=1) for each in PAIRS]
COLD = [replace(each, idle=0) for each in PAIRS]
LOOKS = [
    LoopSetting(("get", "get"), options=PINGED),
    LoopSetting(("get", "kill"), options=PINGED),
    LoopSetting(("keyed", "kill"), options=PINGED),
    LoopSetting(("shared", "shared"), options=PINGED),
    LoopSetting(("shared", "kill"), options=PINGED),
    LoopSetting(("check", "get")),
    LoopSetting(("check", "close")),
    LoopSetting(("check", "drain")),
    LoopSetting(("check", "kill")),
    LoopSetting(("check", "lose")),
    LoopSetting(("get", "lose")),
    LoopSetting(("block", "lose")),
]
BLOCKS = [
    LoopSetting(names)
    for names in (
        ("shared", "shared"),
        ("shared", "block"),
        ("failing block", "get"),
        ("proxy", "get"),
        ("proxy", "closeall"),
    )
]
FAILING = [
    LoopSetting(("get", "get"), idle=0, failures=1),
    LoopSetting(("get", "reopen"), idle=0, minconn=1, failures=1),
    LoopSetting(("dirty put", "get"), failures=1, fails=("rollback",)),
    LoopSetting(("block", "get"), failures=1, fails=("commit",)),
    LoopSetting(("put(close)", "get"), failures=1, fails=("close",)),
    LoopSetting(("get", "get"), failures=1, fails=("ping",), options=PINGED),
]
REFILLED = [
    LoopSetting(("lose", "get"), minconn=1),
    LoopSetting(("grow", "get"), minconn=1),
    LoopSetting(("drain", "check"), minconn=1),
    LoopSetting(("put(close)", "check"), minconn=1),
    LoopSetting(("reopen", "get"), idle=0, minconn=1),
    LoopSetting(("reopen", "close"), idle=0, minconn=1),
    LoopSetting(("reopen", "closeall"), idle=0, minconn=1),
]
THREE = [
    setting("get", "get", "get", cancels=1),
    setting("get", "get", "timeout"),
    setting("get", "close", "get"),
    setting("get", "dirty put", "keyed"),
]
LARGE = [
    LoopSetting(("shared", "shared", "get"), cancels=1),
    LoopSetting(("get", "get", "get"), maxconn=2, idle=0),
    LoopSetting(("shared", "shared"), cancels=1, options=PINGED),
]
# Where a cancel by day strikes at each step; by night it does so in all pairs.
STRUCK = [
    setting(*names, cancels=1)
    for names in (
        ("get", "get"), ("get", "dirty put"), ("get", "put(close)"), ("get", "block"), ("get", "keyed"),
        ("get", "timeout"), ("get", "close"), ("get", "closeall"), ("get", "drain"), ("get", "shrink"),
        ("block", "closeall"), ("dropped", "get"), ("get", "proxy"), ("shared", "shared"), ("check", "get"),
    )
] + [
    LoopSetting(("get", "get"), idle=0, cancels=1),
    LoopSetting(("get", "get"), idle=0, cancels=1, failures=1),
    LoopSetting(("get", "get"), cancels=1, options=PINGED),
    LoopSetting(("reopen", "get"), idle=0, minconn=1, cancels=1),
    LoopSetting(("reopen", "close"), idle=0, minconn=1, cancels=1),
]  # fmt: skip
BOUND = 2
Job = tuple[LoopSetting, Optional[int]]  # and how many callbacks may run before their turn; None: any number
BY_DAY: list[Job] = [(each, None) for each in [*PAIRS, *LOOKS, *BLOCKS, *FAILING, *REFILLED, *THREE, *STRUCK]]
BY_DAY += [(each, BOUND) for each in LARGE]
BY_NIGHT: list[Job] = [
    (each, None)
    for each in [
        *LARGE,
        LoopSetting(("shared", "shared", "get"), cancels=1, options=PINGED),
        *COLD,
        *CANCELLED,
        *(replace(each, cancels=1) for each in [*LOOKS, *BLOCKS, *FAILING, *REFILLED]),
    ]
    if (each, None) not in BY_DAY
] + [(setting("get", *names, cancels=1), BOUND) for names in pairs(OPERATIONS)]
