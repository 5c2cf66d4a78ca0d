"""Yield points: before each opcode of the pool's code that touches what threads share."""

from __future__ import annotations

import dis
import sys
from _thread import get_ident
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING, Any, Callable

import dbpool.abstract
import dbpool.connecting
import dbpool.core
import dbpool.health
import dbpool.lease
import dbpool.pool
import dbpool.registry
import dbpool.returning
import dbpool.semaphore
import dbpool.shell
import dbpool.state
import dbpool.upkeep
import dbpool.views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

MODULES = (
    dbpool.pool,
    dbpool.abstract,
    dbpool.lease,
    dbpool.shell,
    dbpool.upkeep,
    dbpool.views,
    dbpool.returning,
    dbpool.connecting,
    dbpool.core,
    dbpool.state,
    dbpool.health,
    dbpool.registry,
    dbpool.semaphore,
)
TOUCHING = ("STORE_ATTR", "BINARY_SUBSCR", "BINARY_SLICE", "STORE_SUBSCR", "DELETE_SUBSCR", "CONTAINS_OP", "FOR_ITER")
TESTS = ("TO_BOOL", "POP_JUMP", "JUMP_IF", "UNARY_NOT")


def functions_of(code: CodeType) -> list[CodeType]:
    """Return *code* and all code inside it."""
    found = [code]
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found += functions_of(const)
    return found


def _module_code(module: Any) -> CodeType:
    with open(module.__file__, encoding="utf-8") as source:
        return compile(source.read(), module.__file__, "exec")


@cache
def written() -> frozenset[str]:
    """Return the attributes that are written by more than constructors: reading one is a step of its own."""
    return frozenset(
        instruction.argval
        for module in MODULES
        for code in functions_of(_module_code(module))
        if code.co_name != "__init__"
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_ATTR"
    )


def points_of(code: CodeType) -> frozenset[int]:
    """Return the offsets before which another thread may run: calls, items, attributes that change, tests of one."""
    found = []
    instructions = [each for each in dis.get_instructions(code) if each.opname not in ("CACHE", "EXTENDED_ARG")]
    for instruction, following in zip(instructions, [*instructions[1:], None]):
        name = instruction.opname
        if name == "LOAD_ATTR":
            tested = following is not None and following.opname.startswith(TESTS)
            touches = tested or instruction.argval in written()
        else:
            touches = name in TOUCHING or (name.startswith("CALL") and not name.startswith("CALL_INTRINSIC"))
        if touches:
            found.append(instruction.offset)
    return frozenset(found)


def shipped() -> Iterator[CodeType]:
    """Return the code of all functions of the pool, as it runs now."""
    for module in MODULES:
        for thing in vars(module).values():
            if getattr(thing, "__module__", None) == module.__name__:
                for function in [thing, *getattr(thing, "__dict__", {}).values()]:
                    code = getattr(getattr(function, "fget", function), "__code__", None)
                    if code is not None:
                        yield from functions_of(code)


class Tracer:
    """Yield points by sys.settrace, up to CPython 3.11. Later ones trace no opcode of a function's first call."""

    def __init__(self) -> None:
        self._points: dict[int, tuple[CodeType, frozenset[int]]] = {}  # by the address: hashing code is slow

    def __enter__(self) -> None:
        self._points = {id(code): (code, points_of(code)) for code in shipped()}

    def __exit__(self, *exc: object) -> None:
        self._points.clear()

    def begin(self, point: Callable[[], None]) -> None:
        """Have *point* called in this thread, at every yield point."""
        points, tracers = self._points, {}

        def trace(frame: FrameType, event: str, arg: Any) -> Any:
            address = id(frame.f_code)
            if address not in points:
                return None
            if address not in tracers:
                tracers[address] = opcode_tracer(points[address][1], point)
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            return tracers[address]

        sys.settrace(trace)

    def end(self) -> None:
        sys.settrace(None)


def opcode_tracer(offsets: frozenset[int], point: Callable[[], None]) -> Any:
    """Return what sys.settrace wants for the code that has its yield points at *offsets*."""

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and frame.f_lasti in offsets:
            point()
        return trace

    return trace


class Monitor:
    """Yield points by sys.monitoring, from CPython 3.12 on; all other opcodes cost nothing."""

    def __init__(self) -> None:
        self._points: dict[int, tuple[CodeType, frozenset[int]]] = {}
        self._threads: set[int] = set()
        self._point: Callable[[], None] = lambda: None
        self._tool = -1

    def __enter__(self) -> None:
        self._points = {id(code): (code, points_of(code)) for code in shipped()}
        monitoring = sys.monitoring
        self._tool = next(tool for tool in (4, 3, 2, 0) if monitoring.get_tool(tool) is None)
        monitoring.use_tool_id(self._tool, "yield points")
        monitoring.register_callback(self._tool, monitoring.events.INSTRUCTION, self._instruction)
        for code, _ in self._points.values():
            monitoring.set_local_events(self._tool, code, monitoring.events.INSTRUCTION)
        monitoring.restart_events()

    def __exit__(self, *exc: object) -> None:
        monitoring = sys.monitoring
        for code, _ in self._points.values():
            monitoring.set_local_events(self._tool, code, 0)
        monitoring.register_callback(self._tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(self._tool)
        self._points.clear()

    def begin(self, point: Callable[[], None]) -> None:
        """Have *point* called in this thread, at every yield point."""
        self._point = point
        self._threads.add(get_ident())

    def end(self) -> None:
        self._threads.discard(get_ident())

    def _instruction(self, code: CodeType, offset: int) -> Any:
        if offset not in self._points[id(code)][1]:
            return sys.monitoring.DISABLE
        if get_ident() in self._threads:
            self._point()
        return None


watch: Any = Monitor() if sys.version_info >= (3, 12) else Tracer()
