"""Limiter: one limit over the connections of several pools."""

from __future__ import annotations

import itertools
from _thread import get_ident
from heapq import heappop, heappush, heapreplace
from typing import Any, NoReturn
from weakref import ref

from dbpool import fork
from dbpool.clock import uptime
from dbpool.locks import RLock

FEWEST = 64
_turns = itertools.count()  # those of the same age come one after the other


class Limiter:
    """At most *limit* connections are open, being opened or being closed in all pools that have it, taken together.

    Give it to each of them as the option ``limiter``. Who waits is served first come, first served across the pools:
    if the limit is reached, the one that was used least recently, of those that lie idle in other pools, is closed for
    the caller who has waited longest. None of this looks at each of the pools, of which there may be thousands.

    A pool for one thread counts as all others do, but is not asked by other threads to close what it has idle.
    """

    def __init__(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be a whole number, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit!r}")
        self.limit = limit
        self.lock = RLock()  # held while a slot is taken; taken within a pool's lock, and never the other way round
        self._known: set[ref[Any]] = set()  # the state of each pool, as long as it lives
        self._members: dict[ref[Any], Any] = {}  # the same -> how the pool settles
        self._sizes: dict[ref[Any], tuple[int, int]] = {}  # its connections, as counted last, and those being closed
        self._total = (0, 0)  # of all
        self._changing: set[ref[Any]] = set()  # those that are changing, or were cut off while they did
        self._counting: object = None  # a count is under way, or was cut off: then all are counted anew
        self._wishing: dict[ref[Any], None] = {}  # the states in which somebody waits because of this limit
        self._ages: list[tuple[float, int, ref[Any]]] = []  # a heap: since when, at least, none was taken from a pool
        self._ranked: set[ref[Any]] = set()  # those in it
        self._most = FEWEST  # so long it may become before it is looked through for those that are gone
        self._waking: dict[int, ref[_Token]] = {}  # the threads that are waking pools
        fork.watch(self)

    @property
    def used(self) -> int:
        """Connections that count: a number that was right at some moment of the call."""
        return self._totals()[0]

    @property
    def closing(self) -> int:
        """Those of them that are being closed."""
        return self._totals()[1]

    def __repr__(self) -> str:
        return f"<Limiter {self.used} of {self.limit} used, {len(self._known)} pools>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("cannot copy or pickle Limiter: it counts the connections of this process")

    # ---- what the states tell and ask, each under its pool's lock ---------------------------------------------------

    def join(self, state: Any, settle: Any) -> None:
        """Count the connections of *state* from now on; *settle*, a WeakMethod or None, has it match again."""
        state.member = member = ref(state, self._known.discard)
        hash(member)  # kept by the reference: it cannot be computed any more once the state is gone
        with self.lock:
            self._sizes[member] = (0, 0)
            self._members[member] = settle
            self._known.add(member)

    def leave(self, state: Any) -> None:
        """Count *state* no more: it has nothing, and will have nothing."""
        self.count(state)
        with self.lock:
            self._wishing.pop(state.member, None)
            self._ranked.discard(state.member)
            self._sizes.pop(state.member, None)
            self._members.pop(state.member, None)
            self._known.discard(state.member)
            state.limiter = None

    def expect(self, state: Any) -> None:
        """*state* is about to change what it has: until it says that it has, it is looked at anew each time."""
        self._changing.add(state.member)

    def count(self, state: Any) -> None:
        """Take note of how many connections *state* has now."""
        with self.lock:
            self._note(state)
            self._changing.discard(state.member)

    def _note(self, state: Any) -> None:
        member = state.member
        if state.entries and member not in self._ranked:
            self._rank(member)
        now, before = _size_of(state), self._sizes.get(member, (0, 0))
        if now == before:
            return
        if self._is_stale():
            self._recount()
        else:
            token = self._counting = object()
            self._total = self._total[0] + now[0] - before[0], self._total[1] + now[1] - before[1]
            self._sizes[member] = now
            if self._counting is token:  # else a finalizer counted meanwhile
                self._counting = None

    def wished(self, state: Any) -> None:
        """Take note of whether somebody waits in *state* because of this limit."""
        if state.wishes:
            self._wishing[state.member] = None
        else:
            self._wishing.pop(state.member, None)

    def grants(self, state: Any, since: float) -> bool:
        """True if *state* may take one more for a caller who came at *since*. Called with the lock held."""
        return self.limit - self._totals()[0] > self._older(state, since)

    def claims(self, state: Any, since: float) -> int:
        """How many of its idle connections *state* owes to callers of other pools who came before *since*."""
        older = self._older(state, since)
        if not older:
            return 0
        used, closing = self._totals()
        return max(0, older - max(0, self.limit - used + closing))

    # ---- asked by those who wait ------------------------------------------------------------------------------------

    def states(self) -> list[Any]:
        """The states of all pools."""
        return [state for state in [member() for member in list(self._known)] if state is not None]

    def in_line(self) -> list[Any]:
        """Return who stands in line, in pools where somebody waits because of this limit."""
        return [waiter for state in self._wishers() for waiter in state.waiters]

    def under_way(self) -> bool:
        """True while something may come of itself in any of the pools. Called without a lock held."""
        for state in self.states():
            if state.lost:  # it may only have to look
                _call(self._members.get(state.member))
        return any(state.lost or state.idle or state.under_way() for state in self.states())

    # ---- counting ---------------------------------------------------------------------------------------------------

    def _older(self, state: Any, since: float) -> int:
        return sum(wish < since for other in self._wishers() if other is not state for wish in other.wishes)

    def _wishers(self) -> list[Any]:
        return [state for state in [member() for member in list(self._wishing)] if state is not None]

    def _totals(self) -> tuple[int, int]:
        with self.lock:
            if self._is_stale():
                self._recount()
            if self._changing:
                self._look_at_the_changing()
            return self._total

    def _look_at_the_changing(self) -> None:
        """Count those anew that are changing just now. An interrupt may have cut one off before it said that it has."""
        for member in list(self._changing):
            state = member()
            if state is None or member not in self._known:
                self._changing.discard(member)
            else:
                self._note(state)

    def _is_stale(self) -> bool:
        """True if a count was cut off, or a pool is gone with what it had."""
        return self._counting is not None or len(self._sizes) != len(self._known)

    def _recount(self) -> None:
        token = self._counting = object()
        known = {member: state for member in list(self._known) if (state := member()) is not None}
        self._sizes = {member: _size_of(state) for member, state in known.items()}
        self._total = sum(used for used, _ in self._sizes.values()), sum(out for _, out in self._sizes.values())
        for members in (self._members, self._wishing):
            for gone in [member for member in list(members) if member() is None]:
                members.pop(gone, None)
        if self._counting is token:
            self._counting = None

    # ---- making room ------------------------------------------------------------------------------------------------

    def wake_others(self) -> None:
        """Have each pool look for what another has made possible, until that changes nothing any more.

        Called without any lock held, by each pool that has looked: also by those that are woken here.
        """
        if not self._wishing:
            return
        ident, token = get_ident(), _Token()
        busy = self._waking.get(ident)
        if busy is not None and busy() is not None:
            return  # the frame below, which woke this pool, looks again
        self._waking[ident] = ref(token)  # weakly: an interrupt may strike before it is taken away again
        try:
            before, gated = self._picture(), False
            while self._wishing:
                self._wake()
                picture = self._picture()
                if picture != before:
                    before, gated = picture, False
                elif gated:
                    return
                else:  # a hit was quicker, or all are in use: what comes back from now on is looked at
                    self._set_gates()
                    self._reap()
                    gated = True
        finally:
            self._waking.pop(ident, None)

    def _picture(self) -> tuple[tuple[int, int], list[tuple[int, tuple[float, ...]]]]:
        return self._totals(), [(id(state), tuple(state.wishes)) for state in self._wishers()]

    def _wake(self) -> None:
        """Let those look for whom there is room, the longest waiting first; or have the least used one closed."""
        for _, settle in sorted(self._queue(), key=_first):
            if self.used >= self.limit:
                break
            _call(settle)
        used, closing = self._totals()
        if used >= self.limit and closing < sum(len(state.wishes) for state in self._wishers()):
            _call(self._members.get(self._least_used()))

    def _queue(self) -> list[tuple[float, Any]]:
        """Return since when somebody waits in each pool, and how it settles."""
        waiting = [(member(), self._members.get(member)) for member in list(self._wishing)]
        return [(min(state.wishes, default=0.0), settle) for state, settle in waiting if state is not None]

    def _set_gates(self) -> None:
        for member, settle in list(self._members.items()):
            state = None if settle is None else member()
            if state is not None:
                state.gate = True

    def _reap(self) -> None:
        """Have those look of which nobody else may think: one was dropped there, or a connect takes too long."""
        now = uptime()
        for member, settle in list(self._members.items()):
            state = None if settle is None else member()
            if state is not None and (state.lost or state.is_overdue(now)):
                _call(settle)

    def _rank(self, member: ref[Any]) -> None:
        """Have *member* asked for an idle connection when it is its turn. Twice, if cut off, does no harm."""
        if self._members.get(member) is None:
            return
        if len(self._ages) >= self._most:
            self._ages = ages = sorted(each for each in self._ages if each[2] in self._ranked and each[2]() is not None)
            self._ranked = {each[2] for each in ages}
            self._most = max(FEWEST, 2 * len(ages))
        heappush(self._ages, (0.0, next(_turns), member))
        self._ranked.add(member)

    def _least_used(self) -> Any:
        """Return the pool whose idle connection was used least recently; None if there is none to be had."""
        with self.lock:
            return self._found()

    def _found(self) -> Any:
        """An age in the heap may be lower than it is by now, and is then corrected: no hit had to do that."""
        for _ in range(len(self._ages)):
            age, _, member = self._ages[0]
            state = member()
            if state is None or not state.entries:
                self._ranked.discard(member)
                heappop(self._ages)
                continue
            used = state.idle_since()
            if used is not None and used <= age:
                return member
            heapreplace(self._ages, (uptime() if used is None else used, next(_turns), member))
        return None

    def _renew_after_fork(self) -> None:
        self.lock = RLock()
        self._waking.clear()
        self._wishing.clear()
        self._counting = self


class _Token:
    """Lives as long as the frame that made it."""

    __slots__ = ("__weakref__",)


def _size_of(state: Any) -> tuple[int, int]:
    return state.size(), len(state.closing)


def _first(waiting: tuple[float, Any]) -> float:
    return waiting[0]


def _call(settle: Any) -> None:
    method = None if settle is None else settle()
    if method is not None:
        method()
