"""dump(): every pool of the process, who holds its connections, who waits, and where each of them stands."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from dbpool import fork, holders
from dbpool.clock import uptime

if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")


def dump(file: Any = None) -> None:
    """Write the state of all pools to *file* (default: sys.stderr). Takes no pool's lock: it works whatever hangs."""
    file = sys.stderr if file is None else file
    if file is None:  # a program without any
        return
    _write(file, "".join(line + "\n" for line in _lines()))


def dump_on_signal(number: int | None = None, file: Any = None) -> None:
    """Call dump(*file*) at each signal *number* (default: SIGUSR2), from now on.

    Raises ValueError outside the main thread, as signal.signal does.
    """
    import signal

    def handle(signum: int, frame: FrameType | None) -> None:
        with contextlib.suppress(Exception):  # it must not end up in the program
            dump(file)

    signal.signal(signal.SIGUSR2 if number is None else number, handle)


def _lines() -> list[str]:
    pools = sorted(fork.watched(), key=lambda pool: str(pool.name))
    lines = [f"dbpool: {len(pools)} pool{'' if len(pools) == 1 else 's'} in process {os.getpid()}"]
    now = uptime()
    for pool in pools:
        state = pool._state
        lines.append(f"{type(pool).__name__} {_unlocked(state.describe)}")
        lines += [f"  held by {user}" for user in holders.users(_unlocked(holders.leased, state), now, pool._who)]
        lines += [f"  waiting: {user}" for user in holders.users(_unlocked(holders.waiting, state), now, pool._who)]
        if state.last_error is not None:
            lines.append(f"  the last error of a connect: {type(state.last_error).__name__}")
    return lines


def _unlocked(look: Callable[..., T], *args: Any) -> T:
    """Return what *look* sees; without the lock what it looks at may change meanwhile, so look again."""
    for _ in range(100):
        try:
            return look(*args)
        except RuntimeError:
            pass
    return look(*args)


def _write(file: Any, text: str) -> None:
    """Write at once. In a signal handler the file's own buffer may be in use by the frame below."""
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError, ValueError):  # no file of the system's
        file.write(text)
        return
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]
