"""Bundle: all that is known, in one file to be sent to whoever is asked for help. No secret is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dbpool import standing
from dbpool.escaping import escaped
from dbpool.monitor.process import versions
from dbpool.monitor.written import encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbpool.monitor.sampler import Sampler

FIGURES = ("used", "idle", "connecting", "closing", "waiting")


def bundle(sampler: Sampler) -> bytes:
    """Return the bundle, as JSON."""
    _, text = sampler.text("history")
    state = json.loads(text)
    history = state.pop("history")
    state["csrf"] = None  # whoever reads it is to do nothing here
    lines = [line for pool in state["pools"] for line in dumped(pool)]
    found = {"versions": versions(), "dump": lines, "threads": threads(), "state": state, "history": history}
    return encoded(found, indent=1)


def dumped(pool: dict[str, Any]) -> Iterator[str]:
    """Return what dbpool.dump() writes of a pool, made from its report: that was safe to make, with tasks, too."""
    figures = ", ".join(f"{pool['stats'][name]} {name}" for name in FIGURES) if pool["stats"] else "not known"
    most = f", max {pool['stats']['maxconn']}" if pool["stats"] else ""
    yield f"{pool['kind']} {pool['name']} in process {pool['pid']}: {figures}{most}"
    yield f"  {pool['verdict']['code']}: {pool['verdict']['text']}"
    for each in pool["connections"]:
        if each["state"] == "leased":
            yield f"  held by {_told(each['holder'], each['held'], each['at'])}"
    for each in pool["waiters"]:
        yield f"  waiting: {_told(each['who'], each['seconds'], each['at'])}"


def _told(who: str, seconds: float, at: str | None) -> str:
    return f"{who} for {seconds:.1f} s{f', now at {at}' if at else ''}"


def threads() -> list[str]:
    """Return the stacks of all threads of this process: files, lines and names of functions, and no values."""
    try:
        return [escaped(line) for line in standing.dumped().splitlines()]
    except Exception as exc:  # no descriptor is left, for one
        return [f"not to be had: {type(exc).__name__}"]
