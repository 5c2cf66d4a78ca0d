"""The logger ``dbpool``. It loads logging at the first line that is written, not when the package is imported.

Each record has, as fields of its own, ``event`` (what happened, in one word), ``pool`` (its name) and what else is
known: ``reason``, ``seconds``, ``error``, ``left_out``. A line is one line: what would begin another is escaped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from dbpool.escaping import escaped
from dbpool.masking import CANNOT_LOAD

DEBUG = 10
# Reasons for closing a connection that say that something is wrong; the others are a pool's daily work.
TROUBLE = ("interrupted", "lost", "not clean", "read-only", "reset failed", "unfit")


def debug(text: str, *args: Any, of: Any = None, event: str = "", **fields: Any) -> None:
    """Write what only the developers of an application want to read. *of*: the pool."""
    _write(10, text, args, of, event, fields)


def info(text: str, *args: Any, of: Any = None, event: str = "", **fields: Any) -> None:
    """Write what happened and is no fault."""
    _write(20, text, args, of, event, fields)


def warning(text: str, *args: Any, of: Any = None, event: str = "", **fields: Any) -> None:
    """Write what somebody should look into."""
    _write(30, text, args, of, event, fields)


def exception(text: str, *args: Any, of: Any = None, event: str = "", **fields: Any) -> None:
    """Write what went wrong in a user's own code, with the traceback of the exception that is being handled."""
    _write(40, text, args, of, event, fields, exc_info=True)


def discarded(pool: Any, reason: str | None, age: float) -> None:
    """Write that a connection of *pool* was closed, and why."""
    write = info if reason in TROUBLE else debug
    text = "%s: a connection was closed after %.1f s: %s"
    write(text, pool.name, age, reason, of=pool, event="discarded", reason=reason, seconds=age)


def left_out(pool: Any, at_once: bool = False) -> None:
    """Write how many lines of *pool* were left out, if their storm is over."""
    for event, count, level in pool._storms.over(at_once):
        _write(level, "%s: %d more lines of %s were left out", (pool.name, count, event), pool, "left_out",
               {"left_out": count, "reason": event})  # fmt: skip


def _write(
    level: int, text: str, args: tuple[Any, ...], of: Any = None, event: str = "", fields: dict[str, Any] | None = None,
    **more: Any,
) -> None:  # fmt: skip
    try:
        logger = _logger()
    except CANNOT_LOAD:
        return
    if not logger.isEnabledFor(level):
        return
    before = of._storms.admit(event, level) if of is not None and event and level > DEBUG else 0
    if before is None:
        return
    if before:
        text, args = f"{text} (%d lines like this were left out before)", (*args, before)
    extra = {"event": event, "pool": None if of is None else of.name, "left_out": before, **(fields or {})}
    shown = {name: _shown(value) for name, value in extra.items()}
    logger.log(level, text, *map(_shown, args), extra=shown, **more)


@lru_cache(maxsize=1)
def _logger() -> Any:
    """Return the logger. Each getLogger() would take a lock of logging's, which an interrupt can leave taken."""
    import logging

    return logging.getLogger("dbpool")


def _shown(value: Any) -> Any:
    """Return *value* as it may stand in a line; numbers stay what they are."""
    return value if value is None or isinstance(value, (bool, int, float)) else escaped(str(value))
