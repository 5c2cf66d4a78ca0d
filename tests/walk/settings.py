"""Which settings are walked by day and by night, and within which bound."""

from __future__ import annotations

from typing import Optional

from .scenarios import OPERATIONS, Setting, pairs

Job = tuple[Setting, Optional[int]]  # and how many preemptions are allowed; None: no limit
BOUND = 3


def setting(*clients: str, idle: bool = True) -> Setting:
    """Some operations on one connection; a pool to shrink has two. Who drops one is noticed by a heartbeat only."""
    size = 2 if "shrink" in clients else 1
    return Setting(clients, maxconn=size, idle=size * idle, impatient="dropped" in clients and len(clients) > 2)


PAIRS = [setting(*names) for names in pairs(OPERATIONS)]
INTERRUPTED = [Setting((other, "timeout"), interrupts=True) for other in ("get", "keyed", "close", "drain", "shrink")]
COLD = [setting(*names, idle=False) for names in pairs(OPERATIONS)]
THREE = [setting("get", *names) for names in pairs(OPERATIONS)]
OTHER = [
    Setting(("get", "timeout"), impatient=True),
    Setting(("get", "get"), idle=0, failures=1),
    Setting(("get", "get"), idle=0, slow_threads=True),
    Setting(("get", "get"), options=(("idle_timeout", 0),)),
    Setting(("get", "get"), idle=0, options=(("max_overflow", 1),)),
    Setting(("get", "get"), maxconn=2, idle=0, options=(("max_connecting", 1),)),
]
PINGED = (("ping_after", 0),)  # at each get
LOOKS = [
    Setting(("get", "kill"), options=PINGED),
    Setting(("get", "get"), options=PINGED),
    Setting(("get", "ping"), options=PINGED),
    Setting(("keyed", "kill"), options=PINGED),
    Setting(("kill", "ping")),
    Setting(("get", "lose")),
    Setting(("get", "ping")),
    Setting(("close", "ping")),
    Setting(("drain", "ping")),
    Setting(("lose", "ping")),
]
COMPLETE_BY_DAY = [
    *PAIRS, *INTERRUPTED, *LOOKS, OTHER[0], setting("get", "get", idle=False),
    setting("get", "get", "get"), setting("get", "get", "keyed"),
]  # fmt: skip
BOUNDED_BY_DAY = [setting("get", *names) for names in (("get", "timeout"), ("close", "get"))]
BY_DAY: list[Job] = [(each, None) for each in COMPLETE_BY_DAY] + [(each, BOUND - 1) for each in BOUNDED_BY_DAY]
BY_NIGHT: list[Job] = [(each, None) for each in [*COLD, *OTHER] if each not in COMPLETE_BY_DAY] + [
    (each, BOUND) for each in THREE if each not in COMPLETE_BY_DAY
]
