"""Counts bytecode instructions and sets SIGINT pending at the n-th: CPython itself raises at its next check.

A tracer must not raise: that would test points that do not exist (CPython looks for signals only at calls,
jumps back and function entries) and miss those between a call's return and the STORE that follows. Nor may
it set the signal pending while it runs, for then it would be interrupted itself. So the meter leaves a victim
in a local variable: when its frame is torn down, after its last bytecode, the victim dies, and the callback
of a weakref to it trips the signal from C.
"""

from __future__ import annotations

import _thread
import dis
import operator
import sys
import weakref
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from types import CodeType, FrameType


# From 3.11 CPython looks for signals after calls, at jumps back and at function entries only. Set pending before any
# other instruction, a signal is raised at the next of these, as if it were set there. A call from C into Python ends
# with an instruction of the callee: the check after such a call is reached from there alone.
_LOOKING = ("CALL", "PRECALL", "RESUME", "RETURN", "YIELD", "RAISE", "RERAISE")
CHECKS = frozenset(
    number
    for name, number in dis.opmap.items()
    if sys.version_info < (3, 11) or name.startswith(_LOOKING) or "JUMP_BACKWARD" in name
)


class _Victim:
    __slots__ = ("__weakref__",)


class _Fuse(weakref.ref):  # type: ignore[type-arg]
    """A weakref with a callback in C: methodcaller("burn") calls interrupt_main, which only sets a flag."""

    __slots__ = ("burn",)
    burn: Callable[[], None]


class _Meter:
    """What both meters share: count, limit and fuse. *own* names the files that are not measured."""

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own
        self.seen = 0
        self.limit = 0
        self.checks: list[int] = []  # the instructions, by number, at which a run without a limit could be interrupted
        self._fuse: _Fuse | None = None

    @property
    def tripped(self) -> bool:
        """Whether the limit was reached; a limit of 0 never is."""
        return 0 < self.limit <= self.seen

    def _note(self, code: CodeType, offset: int) -> None:
        if not self.limit and code.co_code[offset] in CHECKS:
            self.checks.append(self.seen)

    def _light(self) -> _Victim:
        victim = _Victim()
        self._fuse = _Fuse(victim, operator.methodcaller("burn"))
        self._fuse.burn = _thread.interrupt_main
        return victim

    def __enter__(self) -> _Meter:
        """Prepare for any number of runs."""
        raise NotImplementedError

    def __exit__(self, *error: object) -> None:
        """Undo __enter__()."""
        raise NotImplementedError

    def begin(self, limit: int) -> None:
        """Measure this thread's frames entered from now on; trip at instruction *limit*."""
        raise NotImplementedError

    def end(self) -> None:
        """Stop measuring; harmless when the trip has stopped it already."""
        raise NotImplementedError


class TraceMeter(_Meter):
    """Up to 3.11: opcode events of sys.settrace, which holds for one thread and frames entered after it."""

    def __enter__(self) -> TraceMeter:
        self._previous = sys.gettrace()
        return self

    def begin(self, limit: int) -> None:
        self.seen, self.limit = 0, limit
        sys.settrace(self._trace)

    def end(self) -> None:
        sys.settrace(None)

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._previous)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename in self.own:
            return None
        if event != "opcode":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._trace
        self.seen += 1
        self._note(frame.f_code, frame.f_lasti)
        if self.seen != self.limit:
            return self._trace
        sys.settrace(None)  # a further call of the tracer would be where the interrupt lands
        self._untrace(frame)
        victim = self._light()  # noqa: F841  (it dies after the last bytecode of this frame)
        return None

    def _untrace(self, frame: FrameType | None) -> None:
        # Up to 3.9 a frame with f_trace reports the line last traced, not the one it is at.
        while frame is not None and frame.f_code.co_filename not in self.own:
            frame.f_trace = None
            frame = frame.f_back


class MonitorMeter(_Meter):
    """From 3.12: INSTRUCTION events of sys.monitoring; settrace's opcode events miss most of them there."""

    def __enter__(self) -> MonitorMeter:
        self._events = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        free = [number for number in (4, 3, 5, 1, 0, 2) if self._events.get_tool(number) is None]
        self._tool = free[0]
        self._thread = _thread.get_ident()
        self._events.use_tool_id(self._tool, "interrupt sweep")
        self._events.set_events(self._tool, self._events.events.INSTRUCTION)
        return self

    def begin(self, limit: int) -> None:
        self.seen, self.limit = 0, limit
        self._call(self._count)

    def end(self) -> None:
        self._call(None)

    def __exit__(self, *error: object) -> None:
        self._events.set_events(self._tool, 0)
        self._events.free_tool_id(self._tool)

    def _call(self, function: Callable[[CodeType, int], None] | None) -> None:
        self._events.register_callback(self._tool, self._events.events.INSTRUCTION, function)

    def _count(self, code: CodeType, offset: int) -> None:
        # Events come from all threads; those below the operation are this thread's, but for our own frames.
        if _thread.get_ident() != self._thread or code.co_filename in self.own:
            return
        self.seen += 1
        self._note(code, offset)
        if self.seen == self.limit:
            self._call(None)
            victim = self._light()  # noqa: F841  (it dies after the last bytecode of this frame)


Meter = MonitorMeter if sys.version_info >= (3, 12) else TraceMeter
