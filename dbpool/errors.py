"""What can go wrong with a pool: one class for each thing a caller can do about it.

A pool raises these as subclasses of its driver's ``Error`` too (``bind``), because people write
``except psycopg2.Error``.
"""

from __future__ import annotations

import copy
import sys
from importlib import import_module
from typing import Any, Optional


class PoolError(Exception):
    """The pool refuses: wrong use, or one of the reasons below."""


class PoolClosed(PoolError):
    """The pool is closed; open another."""


class PoolExhausted(PoolError):
    """No connection can be had now; try later, or with more connections."""


class PoolTimeout(PoolExhausted):
    """No connection came free in time.

    What is raised is a ``TimeoutError`` as well, wherever the driver's Error leaves room for one: psycopg2's and
    ksycopg2's are C structures that CPython cannot combine with OSError.
    """


class TooManyWaiters(PoolExhausted):
    """``max_waiting`` callers wait already; shed load."""


class PoolDeadlock(PoolExhausted):
    """Every thread of the process waits for this pool, so nobody can put a connection back."""


DriverError = Optional[type[BaseException]]
_PUBLIC: tuple[type[PoolError], ...] = (
    PoolError,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
    TooManyWaiters,
    PoolDeadlock,
)
_bound: dict[DriverError, Bound] = {}


class Bound:
    """The classes of this module as one driver knows them: made once for each driver, importable, picklable."""

    __slots__ = ("PoolClosed", "PoolDeadlock", "PoolError", "PoolExhausted", "PoolTimeout", "TooManyWaiters", "driver")

    PoolError: type[PoolError]
    PoolClosed: type[PoolClosed]
    PoolExhausted: type[PoolExhausted]
    PoolTimeout: type[PoolTimeout]
    TooManyWaiters: type[TooManyWaiters]
    PoolDeadlock: type[PoolDeadlock]

    def __init__(self, driver: DriverError) -> None:
        self.driver = driver
        made: dict[type, type] = {}
        for public in _PUBLIC:
            # A bound class derives from its bound parent too: one driver's PoolError catches all of that driver's.
            parents = [made[base] for base in public.__bases__ if base in made]
            made[public] = _make(public, parents, driver)
            setattr(self, public.__name__, made[public])


def copied(error: BaseException) -> BaseException:
    """Return the same error without its traceback, which would keep the frames of those that it went through."""
    try:
        return copy.copy(error)
    except Exception:
        return PoolError(f"{type(error).__name__}: {error}")


def bind(driver: DriverError) -> Bound:
    """Return the pool's errors as subclasses of *driver*, the Error of a DB-API module; None: of nothing else."""
    try:
        return _bound[driver]
    except KeyError:
        return _bound.setdefault(driver, Bound(driver))


def _make(public: type[PoolError], parents: list[type], driver: DriverError) -> type:
    body = {"__doc__": public.__doc__, "__module__": __name__, "__reduce__": _reduce, "bound_to": driver}
    wanted: list[type] = [public, *parents]
    if driver is not None:
        wanted.append(driver)
    name = _name(public, driver)
    if public is PoolTimeout:
        try:
            return type(name, (*wanted, TimeoutError), body)
        except TypeError:  # the layouts of two C structures conflict
            pass
    if wanted == [public]:
        return public
    return type(name, tuple(wanted), body)


def _name(public: type, driver: DriverError) -> str:
    if driver is None:
        return public.__name__ + "__"
    return f"{public.__name__}__{driver.__module__.replace('.', '__')}__{driver.__qualname__}"


def _reduce(error: Any) -> tuple[Any, ...]:
    public = next(base for base in type(error).__mro__ if base in _PUBLIC)
    return _rebuild, (public, type(error).bound_to, error.args), error.__dict__ or None


def _rebuild(public: type, driver: DriverError, args: tuple[Any, ...]) -> BaseException:
    made: BaseException = getattr(bind(driver), public.__name__)(*args)
    return made


def __getattr__(name: str) -> type:
    """Find a bound class by its name, ``PoolTimeout__psycopg2__Error``: so pickle and imports can."""
    public, _, path = name.partition("__")
    if public in Bound.__slots__ and public != "driver" and "__" in name:
        parts = path.split("__")
        driver = getattr(_module(".".join(parts[:-1])), parts[-1], None) if path else None
        if not path or (isinstance(driver, type) and issubclass(driver, BaseException)):
            found: type = getattr(bind(driver), public)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _module(name: str) -> Any:
    try:
        return sys.modules.get(name) or import_module(name)
    except (ImportError, ValueError):
        return None
