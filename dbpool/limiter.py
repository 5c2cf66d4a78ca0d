"""Limiter: one limit over the connections of several pools."""

from __future__ import annotations

from _thread import RLock, get_ident
from operator import itemgetter
from typing import Any, NoReturn
from weakref import ref

from dbpool import fork

FOR_EVER = float("inf")


class Limiter:
    """At most *limit* connections are open, being opened or being closed in all pools that have it, taken together.

    Give it to each of them as the option ``limiter``. Who waits is served first come, first served across the pools:
    if the limit is reached, one that lies idle in another pool is closed for the caller who has waited longest.

    A pool for one thread counts as all others do, but is not asked by other threads to close what it has idle.
    """

    def __init__(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be a whole number, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        self.limit = limit
        self.lock = RLock()  # held while a slot is taken; taken within a pool's lock, and never the other way round
        self._members: dict[ref[Any], Any] = {}  # the state of each pool -> how the pool settles
        self._waking: dict[int, ref[_Token]] = {}  # the threads that are waking pools
        fork.watch(self)

    @property
    def used(self) -> int:
        """Connections that count: a number that was right at some moment of the call."""
        return sum(state.size() for state in self._all())

    def _all(self) -> list[Any]:
        return [state for state in [member() for member in list(self._members)] if state is not None]

    def __repr__(self) -> str:
        return f"<Limiter {self.used} of {self.limit} used, {len(self._all())} pools>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("cannot copy or pickle a Limiter: it counts the connections of this process")

    def join(self, state: Any, settle: Any) -> None:
        """Count the connections of *state* from now on; *settle*, a WeakMethod or None, has it match again."""
        self._members[ref(state, self._members.pop)] = settle

    def grants(self, state: Any, since: float) -> bool:
        """True if *state* may take one more for a caller who came at *since*. Called with the lock held."""
        older: int = sum(wish < since for other in self._all() if other is not state for wish in other.wishes)
        return bool(self.limit - self.used > older)

    def claims(self, state: Any, since: float) -> int:
        """How many of its idle connections *state* owes to callers of other pools who came before *since*."""
        states = self._all()
        older: int = sum(wish < since for other in states if other is not state for wish in other.wishes)
        coming: int = self.limit - sum(other.size() - len(other.closing) for other in states)
        return max(0, older - max(0, coming))

    def wake_others(self) -> None:
        """Have each pool look for what another has made possible, until that changes nothing any more.

        Called without any lock held, by each pool that has looked: also by those that are woken here.
        """
        ident, token = get_ident(), _Token()
        busy = self._waking.get(ident)
        if busy is not None and busy() is not None:
            return  # the frame below, which woke this pool, looks again
        self._waking[ident] = ref(token)  # weakly: an interrupt may strike before it is taken away again
        try:
            before = None
            while before != (before := self._picture()):
                for settle in self._to_wake():
                    _call(settle)
        finally:
            self._waking.pop(ident, None)

    def _picture(self) -> list[tuple[int, int, tuple[float, ...]]]:
        return [(id(state), state.size(), tuple(state.wishes)) for state in self._all()]

    def _to_wake(self) -> list[Any]:
        """Return how those pools settle that may have something to do, the one that has waited longest first."""
        known = [(member(), settle) for member, settle in list(self._members.items()) if settle is not None]
        if self.used < self.limit:
            wishing = [(min(state.wishes, default=FOR_EVER), settle) for state, settle in known if state is not None]
            return [settle for since, settle in sorted(wishing, key=itemgetter(0)) if since != FOR_EVER]
        first = min((wish for state in self._all() for wish in state.wishes), default=FOR_EVER)
        owing = [(state, settle) for state, settle in known if state is not None and first != FOR_EVER]
        for state, _ in owing:
            state.gate = True  # what is put back from now on is looked at
        return [settle for state, settle in owing if state.idle]

    def _renew_after_fork(self) -> None:
        self.lock = RLock()
        self._waking.clear()


class _Token:
    """Lives as long as the frame that made it."""

    __slots__ = ("__weakref__",)


def _call(settle: Any) -> None:
    method = settle()
    if method is not None:
        method()
