"""Once: the state on standard output, for scripts; the exit status says how it is. It takes no textual."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dbpool.top.cleaning import at, count, rows, text

if TYPE_CHECKING:
    from dbpool.top.client import Monitor

HEALTHY, TROUBLE, CANNOT_ASK = 0, 1, 2
GOOD = ("healthy", "closed")  # a pool that was closed is no trouble


def once(monitor: Monitor, as_json: bool) -> int:
    """Print the state; return 0 if all pools are healthy, 1 if not. Raises Unreachable, Unauthorised."""
    state = monitor.state()
    if as_json:
        print(json.dumps(state, indent=2), flush=True)
    else:
        print("\n".join(lines(state)), flush=True)
    return TROUBLE if troubled(state) else HEALTHY


def troubled(state: dict[str, Any]) -> bool:
    """True if a pool is not well, or a process does not answer."""
    stale = any(at(process, "stale") for process in rows(state, "processes"))
    return stale or any(text(pool, "verdict", "code") not in GOOD for pool in rows(state, "pools"))


def lines(state: dict[str, Any]) -> list[str]:
    """Return a line for each pool, and one for each process that does not answer."""
    several = len(rows(state, "processes")) > 1
    found = []
    for pool in rows(state, "pools"):
        process = f"{count(pool, 'pid')} " if several else ""
        code = text(pool, "verdict", "code") or "unknown"
        found.append(f"{process}{label(pool)}: {code}: {text(pool, 'verdict', 'text')}")
    found += [
        f"process {count(process, 'pid')} does not answer"
        for process in rows(state, "processes")
        if at(process, "stale")
    ]
    return found or ["no pool is open"]


def label(pool: dict[str, Any]) -> str:
    """Return what a pool is called, with its endpoint if it has one."""
    endpoint = text(pool, "endpoint")
    return f"{text(pool, 'name')} ({endpoint})" if endpoint else text(pool, "name")
