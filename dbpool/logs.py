"""The logger ``dbpool``. It loads logging at the first line that is written, not when the package is imported."""

from __future__ import annotations

from typing import Any


def debug(text: str, *args: Any) -> None:
    """Write what only the developers of an application want to read."""
    _write(10, text, args)


def info(text: str, *args: Any) -> None:
    """Write what happened and is no fault."""
    _write(20, text, args)


def warning(text: str, *args: Any) -> None:
    """Write what somebody should look into."""
    _write(30, text, args)


def exception(text: str, *args: Any) -> None:
    """Write what went wrong in a user's own code, with the traceback of the exception that is being handled."""
    _write(40, text, args, exc_info=True)


def _write(level: int, text: str, args: tuple[Any, ...], **more: Any) -> None:
    try:
        import logging
    except (ImportError, OSError):  # no descriptor left to load it with
        return
    logging.getLogger("dbpool").log(level, text, *args, **more)
