"""Merging: one document out of those of several processes. No lock, no clock and no I/O in this file."""

from __future__ import annotations

from typing import Any


def merged(own: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one document with the pools of all, in the same order whichever process does it."""
    answered = [own, *(other for other in others if not other.get("stale"))]
    lines = [_process(document) for document in (own, *others)]
    pools = [pool for document in answered for pool in document["state"]["pools"]]
    state = {
        **own["state"],
        "processes": sorted(lines, key=lambda line: int(line["pid"])),
        "pools": sorted(pools, key=lambda pool: (str(pool.get("name")), int(pool.get("pid") or 0), str(pool["id"]))),
    }
    result = {**own, "state": state}
    for part in ("rows", "history"):
        if part in own:
            result[part] = {name: rows for document in answered for name, rows in document.get(part, {}).items()}
    return result


def _process(document: dict[str, Any]) -> dict[str, Any]:
    stale = bool(document.get("stale"))
    process = document["process"] if stale else document["state"]["process"]
    return {"pid": process["pid"], "uptime": process.get("uptime"), "stale": stale}
