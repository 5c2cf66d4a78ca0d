"""The identity of a state: one digest over everything reachable from a world, the suspended frames included."""

from __future__ import annotations

import _thread
import enum
import functools
import itertools
import marshal
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from operator import attrgetter, itemgetter
from typing import Any

from .lowering import is_temp
from .world import Thread, World

NUMBERS = frozenset({int, float, bool, complex, bytes, type(None), type(...)})  # stand for themselves
REFERENCES = [f"#{number}" for number in range(10_000)]
SNAPSHOTS = sys.version_info < (3, 13)  # f_locals is a dict that the frame keeps, and with it every reference
UNSET = object()
Parts = tuple[str, Iterable[Any]]  # what kind of thing it is and how many parts it has; the parts
Handler = Callable[[Any], Parts]
Pick = Callable[[list[Any]], tuple[Any, ...]]


class Canon:
    """Digests worlds: equal digests mean equal futures.

    Objects are numbered as the tour of the object graph meets them, so addresses do not matter. *ignore* maps
    the name of a class to attributes that do not matter either (counters, say), or to None: its type counts.
    *ignore_locals* does the same for local variables.
    """

    def __init__(self, ignore: Mapping[str, Iterable[str] | None], ignore_locals: Iterable[str] = ()) -> None:
        self.ignore = ignore
        self.ignore_locals = frozenset(ignore_locals)
        self.frames: dict[Any, tuple[str, Pick]] = {}
        self.handlers: dict[type, Handler] = {
            str: lambda text: ("text", [text.encode("utf-8", "surrogatepass")]),
            types.GeneratorType: self._generator,
            types.FunctionType: lambda thing: (_name(thing), list(thing.__closure__ or ())),
            types.MethodType: lambda thing: (f"method {_name(thing)}", [thing.__self__]),
            types.BuiltinFunctionType: _builtin,
            types.CellType: lambda cell: ("cell", [cell.cell_contents]),
            types.ModuleType: lambda module: (f"module {module.__name__}", []),
            functools.partial: lambda call: ("partial", [call.func, call.args, *call.keywords.items()]),
            itertools.count: lambda count: (repr(count), []),
            World: lambda world: ("world", []),  # what it holds is on the tour anyway
            Thread: lambda thread: (f"thread {thread.ident}", [thread.body, thread.result]),
        }

    def digest(self, world: World) -> bytes:
        return blake2b(marshal.dumps(self.flatten(world), 2), digest_size=16).digest()

    def flatten(self, world: World) -> list[Any]:
        """The state as a flat list of texts (structure), numbers and bytes: the hot loop of all exploring."""
        out: list[Any] = []
        put, handlers = out.append, self.handlers
        seen: dict[int, str] = {}
        met = seen.get
        todo: list[Any] = [each for number, refer in sorted(world.id.live.values()) for each in (refer(), number)]
        todo += world.threads
        todo += world.__dict__.values()
        take = todo.pop
        while todo:  # the order is that of a stack: any will do, if it is always the same
            thing = take()
            kind = type(thing)
            if kind in NUMBERS:
                put(thing)
                continue
            if kind is tuple:  # a value: only what it holds has an identity
                put(f"tuple {len(thing)}")
                todo += thing
                continue
            key = id(thing)
            known = met(key)
            if known is not None:
                put(known)
                continue
            if kind is not str:
                seen[key] = REFERENCES[len(seen)]
            handler = handlers.get(kind)
            if handler is None:
                handler = handlers[kind] = self._handler(kind)
            mark, parts = handler(thing)
            put(mark)
            todo += parts
        return out

    def _generator(self, body: Any) -> Parts:
        """A suspended frame. Compiled code leaves nothing on its value stack, so this is all of it."""
        frame = body.gi_frame
        if frame is None:
            return "ended", []
        names = frame.f_locals
        values = list(names.values())
        key = (body.gi_code, frame.f_lasti, *names)
        if SNAPSHOTS:
            names.clear()
        known = self.frames.get(key)
        if known is None:
            known = self.frames[key] = self._frame(*key)
        mark, pick = known
        values += (None, body.gi_yieldfrom)
        return mark, pick(values)

    def _frame(self, code: types.CodeType, last: int, *names: str) -> tuple[str, Pick]:
        """Return the mark of a frame, and what picks its locals; a temporary that is not set counts as None."""
        kept = [name for name in names if not is_temp(name) and name not in self.ignore_locals]
        temps = [name for name in code.co_varnames if is_temp(name)]
        wanted = [names.index(name) if name in names else -2 for name in [*kept, *temps]]
        where = f"{code.co_filename}:{code.co_firstlineno} {code.co_name}"
        return f"frame {where} {last} {' '.join(kept)}", itemgetter(*wanted, -2, -1)

    def _handler(self, kind: type) -> Handler:
        """Choose, once for each class, how its instances are taken apart."""
        name = _name(kind)
        ignored = self.ignore.get(kind.__name__, ())
        if ignored is None:
            return lambda _: (name, [])
        if issubclass(kind, (_thread.LockType, _thread.RLock)):
            raise TypeError("a real lock is reachable from the walk: replace RLock and allocate_lock")
        if issubclass(kind, type):
            return lambda thing: (f"class {_name(thing)}", [])
        if issubclass(kind, enum.Enum):
            return lambda thing: (f"{name}.{thing.name}", [])
        if issubclass(kind, BaseException):
            return lambda thing: (f"{name} {len(thing.args)}", list(thing.args))
        if issubclass(kind, (list, tuple, deque)):
            return lambda thing: (f"{name} {len(thing)}", list(thing))
        if issubclass(kind, dict):
            return lambda thing: (f"{name} {len(thing)}", [part for item in thing.items() for part in item])
        if issubclass(kind, (set, frozenset)):
            return lambda thing: (f"{name} {len(thing)}", _sorted(thing))
        if issubclass(kind, (int, float, str, bytes)):
            return lambda thing: (f"{name} {thing!r}", [])
        if hasattr(kind, "__next__"):
            return lambda thing: (name, [_values(thing.__reduce__())])
        return _object(kind, name, frozenset(ignored))


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _builtin(thing: Any) -> Parts:
    """`len`, or a bound method such as `lost.append`."""
    owner = thing.__self__
    return f"builtin {thing.__qualname__}", [] if isinstance(owner, types.ModuleType) else [owner]


def _sorted(members: Iterable[Any]) -> list[Any]:
    """The order of a set of objects depends on addresses: no walk could be replayed."""
    if not all(type(each) in NUMBERS or type(each) is str for each in members):
        raise TypeError(f"a set may hold numbers and texts only: {members!r}")
    return sorted(members, key=repr)


def _values(reduced: Any) -> Any:
    """As tuples, which have no identity: what an iterator's __reduce__ gives is made for the occasion."""
    return tuple(map(_values, reduced)) if isinstance(reduced, (tuple, list)) else reduced


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            yield f"_{base.__name__.lstrip('_')}{slot}" if private else slot


def _object(kind: type, name: str, ignored: frozenset[str]) -> Handler:
    """An ordinary object, or a subclass of weakref.ref: its slots, its __dict__, its referent."""
    slots = [slot for slot in _slots(kind) if slot not in {"__dict__", "__weakref__", *ignored}]
    together = attrgetter(*slots) if len(slots) > 1 else None
    has_dict = kind.__dictoffset__ != 0
    refers = issubclass(kind, weakref.ref)
    shapes: dict[tuple[str, ...], tuple[str, Pick]] = {}

    def shape(names: tuple[str, ...]) -> tuple[str, Pick]:
        kept = [name for name in names if name not in ignored]
        return f"{name} {' '.join(kept)}", itemgetter(*[names.index(name) for name in kept], -1, -1)

    def take_apart(thing: Any) -> Parts:
        try:
            parts = list(together(thing)) if together else [getattr(thing, slot) for slot in slots]
        except AttributeError:
            parts = [getattr(thing, slot, UNSET) for slot in slots]
        if refers:
            parts.append(thing())
        if not has_dict:
            return name, parts
        held = thing.__dict__
        names = tuple(held)
        known = shapes.get(names)
        if known is None:
            known = shapes[names] = shape(names)
        mark, pick = known
        return mark, [*parts, *pick([*held.values(), None])]

    return take_apart
