"""The cases: what a drop-in for psycopg2.pool must keep (PEERS.md, section 3), each with an outcome to be compared.

A case is a function of a Subject, run for the Simple and for the Threaded pool. It returns values that say what can be
observed: no connection objects, no texts of the server. The cases are in making.py, attributes.py and leasing.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from .subjects import Subject

BOTH = ("SimpleConnectionPool", "ThreadedConnectionPool")
SIMPLE, THREADED = BOTH
CASES: dict[str, Case] = {}


class Case:
    """A function of a subject, the classes that it is run for, and whether it makes pools (else it looks at names)."""

    def __init__(self, function: Callable[[Subject], Any], kinds: tuple[str, ...], of_names: bool) -> None:
        self.name = function.__name__
        self.kinds, self.of_names = kinds, of_names
        self.outcome = function


def case(function: Callable[[Subject], Any]) -> Callable[[Subject], Any]:
    """Register a case that makes pools."""
    CASES[function.__name__] = Case(function, BOTH, of_names=False)
    return function


def threaded(function: Callable[[Subject], Any]) -> Callable[[Subject], Any]:
    """Register a case of the Threaded pool only."""
    CASES[function.__name__] = Case(function, (THREADED,), of_names=False)
    return function


def names(function: Callable[[Subject], Any]) -> Callable[[Subject], Any]:
    """Register a case that looks at the module or at the class, which no config can change."""
    CASES[function.__name__] = Case(function, BOTH, of_names=True)
    return function
