"""uptime(): the pool's one clock: seconds that are never set back. slept(): what it leaves out. stood(): a standstill.

A clock that counts suspended time (CLOCK_BOOTTIME) costs a hit 10 percent, because Python has no function of its own
for it. So the hits read the plain one, and whoever looks at connections closely asks whether the machine has slept.
"""

from __future__ import annotations

import time

uptime = time.monotonic
STANDSTILL = 1.0  # seconds: so late nobody wakes unless the process stood still (SIGSTOP, a debugger, a busy host)


def slept() -> float:
    """Return for how many seconds the machine has been suspended since it was started; 0 where it does not tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return 0.0  # pragma: no cover (Linux tells; Windows's plain clock counts it, macOS's does not)


def stood(seconds: float, began: float) -> float:
    """Return for how long the process stood still, if whoever slept from *began* wanted to wake after *seconds*."""
    late = time.monotonic() - began - seconds
    return late if late >= STANDSTILL else 0.0
