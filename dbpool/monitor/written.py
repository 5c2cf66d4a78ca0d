"""Written: documents as JSON, whatever stands in them."""

from __future__ import annotations

import json
import math
from typing import Any


def written(kind: str, document: dict[str, Any]) -> bytes:
    """Return the JSON of the "state", of it with its "history", of a viewer's "first" event, or that of each "tick"."""
    state = document["state"]
    if kind == "history":
        state = {**state, "history": document["history"]}
    if kind in ("state", "history"):
        return encoded(state)
    part = "history" if kind == "first" else "rows"
    return encoded({part: document[part], "state": state})


def encoded(value: Any, indent: int | None = None) -> bytes:
    """Return *value* as JSON; what JSON cannot say, as the next best."""
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, separators=separators, indent=indent, allow_nan=False).encode()
    except (ValueError, TypeError):
        return json.dumps(_sayable(value), separators=separators, indent=indent, allow_nan=False).encode()


def _sayable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _sayable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sayable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"
