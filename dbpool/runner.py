"""Runs an unchanged script with psycopg2.pool and ksycopg2.pool replaced by their twins."""

from __future__ import annotations

import builtins
import io
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from dbpool.config import PoolConfig


def run(script: str, args: list[str], strict: bool) -> int:
    """Run *script* as ``python SCRIPT ARGS`` would; *strict*: the twins behave as psycopg2.pool to the letter.

    Returns 1 if the script ends with an exception, which is shown. Its sys.exit() is passed on. Raises OSError if it
    cannot be read.
    """
    with io.open_code(os.path.abspath(script)) as file:
        source = file.read()
    install_twins(PoolConfig.like_psycopg2() if strict else None)
    # In sys.modules for good: threads that the script leaves behind go on using its globals.
    main: Any = ModuleType("__main__")
    main.__file__, main.__builtins__ = os.path.abspath(script), builtins
    sys.modules["__main__"] = main
    sys.argv = [script, *args]
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):  # else it is another folder
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    try:
        exec(compile(source, main.__file__, "exec", dont_inherit=True), vars(main))
    except KeyboardInterrupt as exc:
        _show(exc)
        raise
    except Exception as exc:
        _show(exc)
        return 1
    return 0


def _show(error: BaseException) -> None:
    """Show *error* as Python does: without our own frame, the first."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def install_twins(config: PoolConfig | None) -> None:
    """Install the twin of each driver that there is."""
    for twin, driver in (("dbpool.psycopg2", "psycopg2"), ("dbpool.ksycopg2", "ksycopg2")):
        try:
            import_module(twin).install(config)
        except ImportError as exc:
            if exc.name != driver or _is_half_there(driver):
                print(f"dbpool run: {exc}", file=sys.stderr)


def _is_half_there(driver: str) -> bool:
    from importlib.util import find_spec

    return find_spec(driver) is not None
