"""uptime(): the pool's one clock: seconds that are never set back. slept(): what it leaves out.

A clock that counts suspended time (CLOCK_BOOTTIME) costs a hit 10 percent, because Python has no function of its own
for it. So the hits read the plain one, and whoever looks at connections closely asks whether the machine has slept.
"""

from __future__ import annotations

import time

uptime = time.monotonic


def slept() -> float:
    """Return for how many seconds the machine has been suspended since it was started; 0 where it does not tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return 0.0  # pragma: no cover (Linux tells; Windows's plain clock counts it, macOS's does not)
