"""The housekeeper: one thread of a process, for all its pools: deadlines, lost connections, and when to sweep.

It runs nothing of a pool's itself and takes no pool's lock: for whatever takes time it starts a thread that ends. So
nothing can hold it up, and a fork finds it asleep. No pool depends on it: what it does in time, getconn and putconn do
when they come by.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from typing import Any, Callable
from weakref import ref

from dbpool import logs
from dbpool.clock import stood, uptime
from dbpool.entry import FOR_EVER
from dbpool.locks import RLock
from dbpool.watch import Watch

LATER = 1.0  # seconds until it tries again what needs a thread, if there was none
PATIENCE = 0.1  # seconds that a fork waits for it to go to rest


class Deadline:
    """At *when*, *act* is called once, if the deadline was not cancelled before, nor dropped."""

    __slots__ = ("__weakref__", "act", "ref", "when")

    def __init__(self, when: float, act: Callable[[], Any]) -> None:
        self.when = when
        self.act = act
        self.ref: ref[Deadline] = ref(self)


class Housekeeper:
    """Started when it is first needed, and again whenever it has ended; it ends by itself once nobody needs it."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._lock: Any = RLock()  # guards its start
        self._resting = allocate_lock()  # held while it runs
        self._deadlines: dict[ref[Deadline], float] = {}  # held weakly: who set one may be cut off
        self._due: dict[int, tuple[ref[Any], float]] = {}  # id(pool) -> the pool, and when it wants a sweep
        self._watch: Watch | None = None
        self._wakes = FOR_EVER  # when it will look by itself; who wants it sooner rings
        self._paused = False
        self._standstills: deque[tuple[float, float]] = deque(maxlen=8)  # when each began, and for how long
        self.running = False  # it has been started ...
        self.begun = False  # ... and counts among the threads of the process
        self.ident: int | None = None
        self.helpers: set[int] = set()  # other threads of ours that never put anything back; each says so itself

    # ---- what others ask of it --------------------------------------------------------------------------------------

    def begin(self, seconds: float, act: Callable[[], Any]) -> Deadline | None:
        """Have *act* called after *seconds*, unless cancelled; None if there can be no thread. It must be quick."""
        deadline = Deadline(uptime() + seconds, act)
        self._deadlines[deadline.ref] = deadline.when
        if self._is_needed(deadline.when):
            return deadline
        self._deadlines.pop(deadline.ref, None)
        return None

    def cancel(self, deadline: Deadline) -> bool:
        """End a deadline; False if it has passed, or is passing just now."""
        return self._deadlines.pop(deadline.ref, None) is not None

    def sweep(self, pool: Any, when: float) -> None:
        """Have a thread run ``pool._sweep()`` at *when*; the pool is known weakly."""
        self._due[id(pool)] = ref(pool), when
        self._is_needed(when)

    def watch(self, pool: Any, entry: Any) -> None:
        """Have a thread run ``pool._lose(entries)`` when the other side closes a connection."""
        if self._is_needed(FOR_EVER) and self._watch is not None:
            self._watch.add(pool, entry)

    def is_this_thread(self) -> bool:
        """True if it is the housekeeper who asks."""
        return self.begun and get_ident() == self.ident

    def leave(self, pool: Any) -> None:
        """Forget a pool that was closed."""
        self._due.pop(id(pool), None)

    def stood_still_since(self, when: float) -> float:
        """Return for how many seconds, as far as is known, the process has stood still since *when*."""
        return sum(seconds for began, seconds in list(self._standstills) if began >= when)

    def _is_needed(self, when: float) -> bool:
        """Make sure that it runs, and wakes in time; what it is to do must be written down already."""
        if not self.running:
            if self._lock._is_owned():  # a signal handler, or a finalizer, in the midst of a start
                return False
            with self._lock:
                if not (self._is_running() or self._start()):
                    return False
        if when < self._wakes and self._watch is not None:
            self._watch.ring()
        return True

    def _is_running(self) -> bool:
        return self.running

    def _start(self) -> bool:
        if self._paused or sys.is_finalizing():
            return False
        try:
            if self._watch is None:
                self._watch = Watch()
            self.running = True
            start_new_thread(self._run, ())
        except (OSError, RuntimeError):  # no descriptors, no threads, or the interpreter is shutting down
            self.running = False
        except BaseException:
            self.running = False
            raise
        return self.running

    # ---- its thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.ident = get_ident()
        self.begun = True
        try:
            with self._resting:
                self._work()
        except BaseException as exc:  # whoever needs it next starts another
            self.running = self.begun = False
            if isinstance(exc, (OSError, ValueError)):  # its descriptors were closed, as by one who becomes a daemon
                self._watch = None
            if not sys.is_finalizing():
                logs.warning("the housekeeper has ended: %s", type(exc).__name__)

    def _work(self) -> None:
        while self._has_work():
            self._round()

    def _has_work(self) -> bool:
        """Say that it has ended, and only then look whether it may: who comes later starts another."""
        self.running = False
        if self._paused or not (self._deadlines or self._due):
            self.begun = False
            return False
        self.running = True
        return True

    def _round(self) -> None:
        self._wakes = FOR_EVER  # from here on who adds something rings, so nothing is overlooked
        times = [*list(self._deadlines.values()), *(due for _, due in list(self._due.values()))]
        self._wakes = min(times, default=FOR_EVER)
        assert self._watch is not None
        began = uptime()
        seconds = None if self._wakes == FOR_EVER else max(0.0, self._wakes - began)
        lost: dict[Any, list[Any]] = {}
        for pool, entry in self._watch.wait(seconds):
            lost.setdefault(pool, []).append(entry)
        if seconds is not None:
            self._note_standstill(stood(seconds, began))
        for pool, entries in lost.items():
            _begin(pool._lose, entries)
        now = uptime()
        for known, when in list(self._deadlines.items()):
            deadline = known() if when <= now else None
            if when <= now and self._deadlines.pop(known, None) is not None and deadline is not None:
                _try(deadline.act)
            deadline = None
        for number, (pool_ref, due) in list(self._due.items()):
            pool = pool_ref()
            if pool is None and self._due.get(number, (None,))[0] is pool_ref:  # else the number is another's now
                self._due.pop(number, None)
            elif pool is None:
                continue
            elif due <= now:
                self._due[number] = pool_ref, FOR_EVER
                if not _begin(pool._sweep):  # which says when it wants the next
                    self._due[number] = pool_ref, now + LATER

    def _note_standstill(self, seconds: float) -> None:
        """The process stood still: what should have ended meanwhile is given that time."""
        if not seconds:
            return
        now = uptime()
        self._standstills.append((now - seconds, seconds))
        for known, when in list(self._deadlines.items()):
            if when <= now and known in self._deadlines:  # cancelled just now, it is dropped when it has passed
                self._deadlines[known] = when + seconds
        logs.warning("the process stood still for %.1f s", seconds)

    # ---- fork -------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Before a fork: go to rest, so that a process with no other threads is forked as one without any."""
        self._paused = True
        if self.running and self._watch is not None:
            self._watch.ring()
            if self._resting.acquire(True, PATIENCE):
                self._resting.release()

    def resume(self) -> None:
        """After a fork, in the parent: go on."""
        self._paused = False
        if self._deadlines or self._due:
            self._is_needed(0.0)

    def begin_anew(self) -> None:
        """After a fork, in the child: nothing here is its own."""
        if self._watch is not None:
            self._watch.close()
        self._renew()


def _begin(work: Callable[..., Any], *args: Any) -> bool:
    try:
        start_new_thread(_try, (work, *args))
    except RuntimeError:  # no thread to be had: it is not done in time, but when somebody comes by
        return False
    return True


def _try(work: Callable[..., Any], *args: Any) -> None:
    try:
        work(*args)
    except Exception:
        if not sys.is_finalizing():
            logs.exception("work in the background failed")


housekeeper = Housekeeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=housekeeper.pause, after_in_parent=housekeeper.resume, after_in_child=housekeeper.begin_anew
    )
