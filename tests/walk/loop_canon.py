"""The identity of a state of the loop's walk: tasks, the coroutines they stand in, what is ready, and the pool."""

from __future__ import annotations

import types
from gc import get_referents
from typing import TYPE_CHECKING, Any

from .canon import SNAPSHOTS, Canon, Parts
from .loop_world import WalkFuture, WalkTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .loop_driver import LoopWorld

# What every frame refers to, and what tells nothing of where it stands.
COMMON = (types.FrameType, types.CodeType, types.FunctionType, types.ModuleType)


class LoopCanon(Canon):
    """Digests loops. Where a coroutine stands is its instruction, its locals and its value stack."""

    def __init__(self, ignore: Mapping[str, Iterable[str] | None], ignore_locals: Iterable[str] = ()) -> None:
        super().__init__(ignore, ignore_locals)
        self.handlers.update({
            types.CoroutineType: lambda coro: self._suspended(coro, coro.cr_frame),
            types.GeneratorType: lambda body: self._suspended(body, body.gi_frame),
            WalkTask: _task,
            WalkFuture: _future,
            dict: _dict,
            set: lambda members: (f"set {len(members)}", list(members)),
        })  # fmt: skip

    def flatten(self, world: LoopWorld) -> list[Any]:  # type: ignore[override]
        """The state as a flat list of texts and numbers."""
        out: list[Any] = []
        put, handlers = out.append, self.handlers
        seen: dict[int, int] = {}
        alive: list[Any] = []  # what is made for the occasion must not give its address to something else
        todo: list[Any] = world.parts()
        while todo:
            thing = todo.pop()
            kind = type(thing)
            if kind in (int, float, bool, bytes, str, type(None), type(...)):
                put(thing)
                continue
            if kind is tuple:
                put(f"tuple {len(thing)}")
                todo += thing
                continue
            key = id(thing)
            if key in seen:
                put(f"#{seen[key]}")
                continue
            seen[key] = len(seen)
            alive.append(thing)
            handler = handlers.get(kind)
            if handler is None:
                handler = handlers[kind] = self._handler(kind)
            mark, parts = handler(thing)
            put(mark)
            todo += parts
        return out

    def _handler(self, kind: type) -> Any:
        if kind.__name__ in ("TaskStepMethWrapper", "TaskWakeupMethWrapper", "FutureIter", "coroutine_wrapper"):
            return lambda thing: (kind.__name__, [each for each in get_referents(thing) if not isinstance(each, type)])
        return super()._handler(kind)

    def _suspended(self, coro: Any, frame: Any) -> Parts:
        if frame is None:
            return "ended", []
        names = frame.f_locals
        every = dict(names)
        if SNAPSHOTS:
            names.clear()
        known = {id(names), id(frame.f_globals), id(frame.f_builtins), *map(id, every.values())}
        values = {name: value for name, value in every.items() if name not in self.ignore_locals}
        parts = [*values.values(), *self._hidden(coro, frame, known)]
        code = frame.f_code
        return f"frame {code.co_filename}:{code.co_firstlineno} {frame.f_lasti} {' '.join(values)} {len(parts)}", parts

    def _hidden(self, coro: Any, frame: Any, known: set[int]) -> list[Any]:
        """What is on the value stack alone: what is awaited, iterators, the exits of async with."""
        found = [*get_referents(coro), *get_referents(frame)]
        return [
            each for each in found
            if id(each) not in known and not isinstance(each, (*COMMON, int, float, str, type)) and each is not None
            and each is not coro
        ]  # fmt: skip


def _dict(thing: dict[Any, Any]) -> Parts:
    """Keys that are addresses tell nothing."""
    keys = [None if type(key) is int else key for key in thing]
    return f"dict {len(keys)}", [*keys, *thing.values()]


def _callbacks(future: Any) -> list[Any]:
    return [callback for callback, _ in future._callbacks or ()]


def _future(future: Any) -> Parts:
    return f"future {future._state}", [future._result, future._exception, *_callbacks(future)]


def _task(task: Any) -> Parts:
    if task.done():
        return f"task {task._state}", [task._result, task._exception, *_callbacks(task)]
    return f"task {task._must_cancel}", [task.get_coro(), task._fut_waiter, *_callbacks(task)]
