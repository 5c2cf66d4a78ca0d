"""Keeper: what the housekeeper is to threads: for each event loop one, that sweeps its pools and watches connections.

It has no task: its timers and the watch's descriptor are the loop's, and cost nothing while nothing happens. Pools and
loop are known weakly. When asyncio.run() ends its loop, it closes what is open.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Callable
from weakref import WeakKeyDictionary, WeakSet, ref

from dbpool.clock import uptime
from dbpool.watch import Watch

if TYPE_CHECKING:
    import asyncio

_keepers: WeakKeyDictionary[Any, Keeper] = WeakKeyDictionary()


def keeper_of(loop: asyncio.AbstractEventLoop) -> Keeper:
    """Return the keeper of *loop*; it is made when it is first asked for."""
    keeper = _keepers.get(loop)
    if keeper is None:
        keeper = _keepers[loop] = Keeper(loop)
    return keeper


class Keeper:
    """Has pools sweep when it is time, and tells them of lost connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._watch: Watch | None = None
        self._swept: dict[int, ref[Any]] = {}  # id(pool) -> a pool that has a timer, which would keep the loop
        self._pools: WeakSet[Any] = WeakSet()
        # Whoever ends a loop in order first closes its asynchronous generators, of which it knows by this hook.
        begun = sys.get_asyncgen_hooks().firstiter
        if begun is not None:
            begun(self)  # type: ignore[arg-type]

    def join(self, pool: Any) -> None:
        """Close the connections of *pool* when the loop is ended."""
        self._pools.add(pool)

    async def aclose(self) -> None:
        """The loop is being ended, with pools that nobody has closed."""
        for pool in list(self._pools):
            if pool._loop is self._loop():  # else this process is a child, and the loop was its parent's
                await pool._end_in_loop()

    def sweep(self, pool: Any, when: float) -> None:
        """Have ``pool._begin_sweep()`` called at *when*."""
        loop = self._loop()
        self._cancel(pool)
        if loop is not None and not loop.is_closed():
            known = ref(pool)
            pool._timer = loop.call_later(max(0.0, when - uptime()), _sweep, ref(self), known)
            self._swept[id(pool)] = known

    def begin(self, seconds: float, act: Callable[[], Any]) -> None:
        """Have *act* called in the loop after *seconds*. May be asked for in any thread."""
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed just now
                loop.call_soon_threadsafe(loop.call_later, seconds, act)

    def watch(self, pool: Any, entry: Any) -> None:
        """Have ``pool._lose(entries)`` called when the other side closes a connection."""
        if self._watch is None:
            self._watch = self._listening()
        self._watch.add(pool, entry)

    def _listening(self) -> Watch:
        watch, loop = Watch(), self._loop()
        with contextlib.suppress(NotImplementedError):  # a loop that cannot: connections are looked at at get
            if loop is not None and watch.descriptor is not None:
                loop.add_reader(watch.descriptor, _look, ref(self))
        return watch

    def leave(self, pool: Any) -> None:
        """Forget a pool that was closed; with the last one the watch ends."""
        self._pools.discard(pool)
        self._cancel(pool)
        self.leave_dropped()

    def leave_dropped(self) -> None:
        """Forget the pools that are gone."""
        self._swept = {number: known for number, known in self._swept.items() if known() is not None}
        if not self._swept:
            self._end()

    def _cancel(self, pool: Any) -> None:
        self._swept.pop(id(pool), None)
        if pool._timer is not None:
            pool._timer.cancel()
            pool._timer = None

    def _end(self) -> None:
        watch, self._watch = self._watch, None
        loop = self._loop()
        if watch is not None:
            if loop is not None and not loop.is_closed() and watch.descriptor is not None:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_reader(watch.descriptor)
            watch.close()

    def __del__(self) -> None:
        if self._watch is not None:  # its loop is gone
            self._watch.close()

    def look(self) -> None:
        """The system says something of a connection."""
        lost: dict[Any, list[Any]] = {}
        for pool, entry in self._watch.wait(0) if self._watch is not None else ():
            lost.setdefault(pool, []).append(entry)
        for pool, entries in lost.items():
            pool._lose(entries)


def _look(known: ref[Keeper]) -> None:
    keeper = known()
    if keeper is not None:
        keeper.look()


def _sweep(keeper: ref[Keeper], known: ref[Any]) -> None:
    pool = known()
    if pool is not None:
        pool._begin_sweep()
        return
    mine = keeper()
    if mine is not None:
        mine.leave_dropped()
