"""RLock: the interpreter's own, which no interrupt can leave taken.

With CPython 3.14 one can: there ``with`` takes a lock and only then, past a point at which signals are looked for,
begins to see to its release (cpython issue 148874; earlier and later ones do both in one step).
"""

from __future__ import annotations

import sys
from _thread import RLock as _RLock
from typing import Any


class WholeRLock(_RLock):  # type: ignore[misc,unused-ignore]
    """Gives back what it took if it is struck just then. (Its release is C code, and needs nothing.)"""

    def __enter__(self) -> Any:  # type: ignore[override,unused-ignore]
        before: int = self._recursion_count()  # type: ignore[attr-defined,unused-ignore]
        try:
            return self.acquire()
        except BaseException:
            if self._recursion_count() > before:  # type: ignore[attr-defined,unused-ignore]
                self.release()
            raise


RLock: Any = WholeRLock if sys.version_info[:2] == (3, 14) else _RLock
