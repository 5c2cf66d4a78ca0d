"""Found: the pools that a monitor shows, each with its journal and its history; it keeps none of them alive."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

from dbpool import fork
from dbpool.directory import LONGEST_NAME, shown
from dbpool.history import History
from dbpool.monitor.journal import Journal
from dbpool.monitor.series import point
from dbpool.monitor.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 100  # pools that are shown; an EndpointPool may have thousands
SOON = 0.5  # periods within which another monitor has just written a row
LATE = 1.5  # periods after which nobody else seems to write the rows


class Watched:
    """One pool that is shown."""

    def __init__(self, pool: Any, number: int) -> None:
        self.ref = ref(pool)
        self.id = f"{os.getpid()}-{number}"
        self.journal = Journal()
        self.settings = Settings()
        self.endpoint = shown(pool.endpoint)[:LONGEST_NAME] if hasattr(pool, "endpoint") else None
        self.history: History | None = None
        self._writes = False  # we write its rows
        self._told: float | None = None  # the moment of the last row that was told of
        pool.listen(self.journal)

    def look(self, pool: Any, now: float) -> History:
        """Write a row of its history, unless that is somebody's who has it written; return the history."""
        kept: History | None = pool._history
        if kept is None or kept is not self.history:
            kept = self._begin(pool)
        newest = kept.newest()
        least = 0.0 if kept.writers == 1 else (SOON if kept.by_hand else LATE) * kept.period
        if newest is None or now - newest >= least:
            pool._write_row()
        return kept

    def _begin(self, pool: Any) -> History:
        """Take the pool's history, or begin one; of one that the program has not asked for, we write the rows."""
        with pool._lock:
            if pool._history is None:
                pool._history = History()
            kept: History = pool._history
            self._writes = kept.by_hand or not kept.asked
            kept.writers += self._writes
        self.history = kept
        return kept

    def row(self, pool: Any, now: float, epoch: float) -> dict[str, Any] | None:
        """Return what the charts are to have more; None: nothing."""
        kept = self.look(pool, now)
        *before, row = kept.latest(2)
        if row[0] == self._told:
            return None
        self._told = row[0]
        return point(before[0] if before else None, row, kept, epoch)

    def leave(self) -> None:
        """Hear no more of it; its history goes on only if the program has asked for it meanwhile."""
        pool, kept = self.ref(), self.history
        if pool is None:
            return
        pool._no_longer_listen(self.journal)
        if kept is None or kept is not pool._history or not self._writes:
            return
        with pool._lock:
            kept.writers -= 1
            if kept.by_hand:
                return
            if not kept.asked:
                pool._history = None
            elif not pool.closed:
                pool._await_row(kept)


class Found:
    """The pools that are shown: those that were given, or all that are open. Guarded by whoever has it."""

    def __init__(self, pools: Iterable[Any] | None) -> None:
        given = None if pools is None else list(pools)
        for pool in given or ():
            if not (hasattr(pool, "stats") and hasattr(pool, "_config")):
                raise TypeError(f"pools must be connection pools, and a {type(pool).__name__} is none")
        self._given = None if given is None else [ref(pool) for pool in given]
        self._known: dict[int, Watched] = {}  # id(pool) -> what is known of it
        self._left: list[Watched] = []  # the parent's, if this process was forked
        self._numbers = itertools.count(1)
        self.left_out = 0

    def now(self) -> list[tuple[Watched, Any]]:
        """Return the pools as they are found now."""
        pools = sorted(self._open() if self._given is None else self._alive(), key=_name_of)
        found = []
        for pool in pools[:MOST]:
            with suppress(Exception):  # what cannot even be watched does not hide the others
                found.append((self._watched(pool), pool))
        self.left_out = len(pools) - len(found)
        kept = {id(pool): watched for watched, pool in found}
        self._leave([watched for number, watched in self._known.items() if kept.get(number) is not watched])
        self._known = kept
        return found

    def leave(self) -> None:
        """Forget all of them."""
        self._leave(list(self._known.values()))
        self._known = {}

    def renew(self) -> None:
        """In a forked child, where no lock may be waited for."""
        self._left = list(self._known.values())
        for watched in self._left:
            watched.journal.renew()
        self._known = {}

    def _leave(self, gone: list[Watched]) -> None:
        left, self._left = self._left, []
        for watched in (*gone, *left):
            with suppress(Exception):
                watched.leave()

    def _watched(self, pool: Any) -> Watched:
        known = self._known.get(id(pool))
        return known if known is not None and known.ref() is pool else Watched(pool, next(self._numbers))

    def _open(self) -> list[Any]:
        return [pool for pool in fork.watched() if not pool._state.closed]

    def _alive(self) -> list[Any]:
        found: list[Any] = []
        for known in self._given or ():
            pool = known()
            if pool is not None:
                found += list(pool._pools.values()) if hasattr(pool, "_pools") else [pool]
        return found


def _name_of(pool: Any) -> str:
    return str(pool._state.name)
