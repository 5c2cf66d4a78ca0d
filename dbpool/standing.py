"""Where threads stand in the program.

The interpreter's own ``sys._current_frames()`` makes objects of other threads' frames, and on CPython 3.11.7 a garbage
collection meanwhile stood still or crashed. faulthandler makes none: it writes text, and that is read here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from dbpool.clock import uptime

HOME = os.path.dirname(os.path.abspath(__file__)) + os.sep
DEMO = HOME + "demo" + os.sep  # a program that uses the pool, like any other
LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
SPARE = 10  # of the time in a storm of time-outs at most one part in so many goes into looking
THREAD = r"^(?:Current thread|Thread) 0x([0-9a-f]+)"
FRAME = r'^  File "(.*)", line (\d+) in (.*)$'
_last: tuple[float, dict[int, str]] = (float("-inf"), {})  # until when it will do, and what was seen


def here() -> str:
    """Return where this thread stands: the innermost place outside this package."""
    frame: Any = sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def now(fresh: bool = False) -> dict[int, str]:
    """Return where each thread stands, by its ident: the innermost place in the program's own code. Never raises.

    In a storm of time-outs a look a moment ago will do, unless it must be *fresh*.
    """
    global _last
    began = uptime()
    until, places = _last
    if fresh or began > until:
        places = {}
        with contextlib.suppress(Exception):  # no descriptor left, for one
            places = _read(dumped())
        ended = uptime()
        _last = ended + SPARE * (ended - began), places
    return places


def idents() -> set[int]:
    """Return all threads that run Python code, also those that something else than Python has started."""
    import re

    return {int(thread[1], 16) for thread in re.finditer(THREAD, dumped(), re.MULTILINE)}


def dumped() -> str:
    """Return the stacks of all threads, as faulthandler writes them."""
    import faulthandler  # only where something went wrong

    with _scratch() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text: str = file.read().decode("ascii", "replace")
        return text


def _scratch() -> Any:
    if hasattr(os, "memfd_create"):
        # Within one step of the interpreter: no interrupt can lose the descriptor.
        return [*map(open, map(os.memfd_create, ("stacks",)), ("w+b",))][0]  # noqa: RUF015
    import tempfile  # pragma: no cover (other systems than Linux)

    return tempfile.TemporaryFile()  # pragma: no cover


def _read(text: str) -> dict[int, str]:
    import re

    places: dict[int, str] = {}
    own: dict[int, str] = {}
    ident = 0
    for line in text.splitlines():
        thread, frame = re.match(THREAD, line), re.match(FRAME, line)
        if thread:
            ident = int(thread[1], 16)
        elif frame and ident not in own:
            file = _name(frame[1])
            place = f"{file}:{frame[2]} in {_name(frame[3])}"
            if not is_librarys(file):
                own[ident] = place
            elif not _is_ours(file):
                places.setdefault(ident, place)
    return {**places, **own}


def is_librarys(file: str) -> bool:
    if _is_ours(file) or file.startswith("<frozen"):
        return True
    return file.startswith(LIBRARY) and "site-packages" not in file and not file.startswith(DEMO)


def _is_ours(file: str) -> bool:
    return file.startswith(HOME) and not file.startswith(DEMO)


def _name(written: str) -> str:
    """Undo what faulthandler does to names that are not ASCII."""
    return written.encode("ascii", "replace").decode("unicode_escape") if "\\" in written else written
