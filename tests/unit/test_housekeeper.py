"""The housekeeper: deadlines, sweeps, when it runs and when it ends, and what befalls when it is killed."""

from __future__ import annotations

import gc
import os
import sys
import threading
from contextlib import ExitStack

import pytest

from dbpool import housekeeper as module
from dbpool.clock import uptime
from dbpool.housekeeper import FOR_EVER, Housekeeper
from dbpool.watch import Watch

from .starting import Starter
from .threads import Caller, eventually

LONG = 3600.0


class Pool:
    """Remembers what it was told to do, and in which threads."""

    def __init__(self):
        self.sweeps, self.lost, self.threads = 0, [], set()

    def _sweep(self):
        self.threads.add(threading.get_ident())
        self.sweeps += 1

    def _lose(self, entries):
        self.threads.add(threading.get_ident())
        self.lost += entries


@pytest.fixture
def starter(monkeypatch):
    starter = Starter()
    monkeypatch.setattr(module, "start_new_thread", starter)
    return starter


@pytest.fixture
def keeper(starter):
    """A housekeeper of the test's own."""
    keeper = Housekeeper()
    yield keeper
    keeper._deadlines.clear()
    keeper._due.clear()
    keeper.pause()
    eventually(lambda: not starter.alive)
    if keeper._watch is not None:
        keeper._watch.close()


# ---- deadlines ---------------------------------------------------------------------------------------------


def test_a_deadline_fires_once_and_not_before_its_time(keeper):
    fired, began = [], uptime()
    deadline = keeper.begin(0.02, lambda: fired.append(uptime()))
    eventually(lambda: fired)
    assert fired[0] - began >= 0.02
    assert not keeper.cancel(deadline)
    assert len(fired) == 1


def test_a_cancelled_deadline_does_not_fire(keeper):
    fired = []
    cancelled = keeper.begin(0.03, lambda: fired.append("cancelled"))
    assert keeper.cancel(cancelled)
    assert not keeper.cancel(cancelled)
    later = keeper.begin(0.06, lambda: fired.append("later"))
    eventually(lambda: fired)
    assert fired == ["later"]
    del later


def test_a_dropped_deadline_does_not_fire(keeper):
    """Who set it was cut off before it could cancel it."""
    fired = []
    keeper.begin(0.03, lambda: fired.append("dropped"))
    later = keeper.begin(0.06, lambda: fired.append("later"))
    eventually(lambda: fired)
    assert fired == ["later"]
    assert not keeper._deadlines
    del later


def test_an_earlier_deadline_wakes_it_from_a_longer_sleep(keeper):
    fired = []
    late = keeper.begin(LONG, lambda: fired.append("late"))
    eventually(lambda: keeper._wakes < FOR_EVER)
    soon = keeper.begin(0.01, lambda: fired.append("soon"))
    eventually(lambda: fired)
    assert fired == ["soon"]
    assert keeper.cancel(late)
    del soon


def test_a_deadline_that_raises_is_logged_and_harms_no_other(keeper, caplog):
    fired = []
    kept = keeper.begin(0.01, lambda: 1 / 0), keeper.begin(0.02, lambda: fired.append(True))
    eventually(lambda: fired)
    assert "work in the background failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    del kept


# ---- sweeps ------------------------------------------------------------------------------------------------


def test_a_sweep_comes_in_a_thread_of_its_own_at_its_time_and_once(keeper, starter):
    pool, now = Pool(), uptime()
    keeper.sweep(pool, now + 0.02)
    eventually(lambda: pool.sweeps)
    assert uptime() >= now + 0.02
    assert pool.threads.isdisjoint({starter.started[0].ident, threading.get_ident()})
    fired = []
    later = keeper.begin(0.05, lambda: fired.append(True))
    eventually(lambda: fired)
    assert pool.sweeps == 1, "the pool says when it wants the next"
    del later


def test_an_earlier_sweep_takes_the_place_of_the_later_one(keeper):
    pool = Pool()
    keeper.sweep(pool, uptime() + LONG)
    eventually(lambda: keeper._wakes < FOR_EVER)
    keeper.sweep(pool, uptime())
    eventually(lambda: pool.sweeps)


def test_a_pool_that_left_is_not_swept(keeper):
    gone, there = Pool(), Pool()
    keeper.sweep(gone, uptime() + 0.02)
    keeper.leave(gone)
    keeper.leave(gone)
    keeper.sweep(there, uptime() + 0.04)
    eventually(lambda: there.sweeps)
    assert not gone.sweeps


def test_a_pool_that_is_gone_is_forgotten(keeper):
    pool, other = Pool(), Pool()
    keeper.sweep(pool, uptime() + 0.01)
    del pool
    keeper.sweep(other, uptime() + 0.03)
    eventually(lambda: other.sweeps)
    assert set(keeper._due) <= {id(other)}


def test_a_sweep_that_raises_is_logged_and_the_next_pool_is_swept(keeper, caplog):
    class Bad(Pool):
        def _sweep(self):
            raise ValueError("bad")

    bad, good = Bad(), Pool()
    keeper.sweep(bad, uptime())
    keeper.sweep(good, uptime() + 0.02)
    eventually(lambda: good.sweeps)
    assert "work in the background failed" in caplog.text


# ---- when it runs ------------------------------------------------------------------------------------------


def test_it_does_not_run_before_it_is_needed(keeper, starter):
    pool = Pool()
    keeper.leave(pool)
    assert not starter.started
    assert not keeper.running


def test_it_ends_when_nobody_needs_it_and_starts_again(keeper, starter):
    fired = []
    for number in range(1, 4):
        deadline = keeper.begin(0.001, lambda: fired.append(True))
        eventually(lambda number=number: len(fired) == number)
        eventually(lambda: not starter.alive)
        assert not keeper.running
        del deadline
    assert len(starter.started) == 3


def test_many_who_need_it_at_once_start_one(keeper, starter):
    everybody = threading.Barrier(8)

    def need():
        everybody.wait(10)
        return keeper.begin(LONG, lambda: None)

    callers = [Caller(need) for _ in range(8)]
    kept = [caller.result() for caller in callers]
    assert all(kept)
    assert len(starter.alive) == 1
    assert sum(keeper.cancel(deadline) for deadline in kept) == 8


def test_it_is_asleep_while_nothing_happens(keeper):
    rounds, pool = [], Pool()
    real = keeper._round
    keeper._round = lambda: (rounds.append(True), real())
    keeper.sweep(pool, uptime() + LONG)
    eventually(lambda: keeper._wakes < FOR_EVER)
    first = len(rounds)
    keeper.sweep(pool, uptime() + LONG)  # later than it wakes anyway: no bell
    eventually(lambda: keeper.running)
    assert len(rounds) == first == 1


# ---- when there is none ------------------------------------------------------------------------------------


def test_without_a_thread_there_is_no_deadline(keeper, starter):
    starter.refuses = True
    assert keeper.begin(0.001, lambda: None) is None
    assert not keeper._deadlines
    assert not keeper.running
    starter.refuses = False
    kept = keeper.begin(LONG, lambda: None)
    assert kept is not None
    assert keeper.cancel(kept)


def test_without_descriptors_there_is_no_deadline(keeper, monkeypatch):
    def no_pipe():
        raise OSError("too many open files")

    monkeypatch.setattr(os, "pipe", no_pipe)
    assert keeper.begin(0.001, lambda: None) is None
    keeper.watch(Pool(), None)
    monkeypatch.undo()


def test_none_is_started_while_the_interpreter_shuts_down(keeper, starter, monkeypatch):
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    assert keeper.begin(0.001, lambda: None) is None
    assert not starter.started


def test_an_interrupt_at_its_start_does_not_have_it_taken_for_running(keeper, monkeypatch):
    def interrupted(work, args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "start_new_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            keeper.begin(LONG, lambda: None)
    fired = []
    deadline = keeper.begin(0.001, lambda: fired.append(True))
    eventually(lambda: fired)
    del deadline


def test_a_sweep_that_had_no_thread_is_made_up_for(keeper, starter, monkeypatch):
    """Else idle_timeout, minconn and leak_threshold would never be looked after again."""
    monkeypatch.setattr(module, "LATER", 0.01)
    pool, passed = Pool(), []
    keeper.sweep(pool, uptime() + 0.01)
    eventually(lambda: keeper.running)
    starter.refuses = True
    kept = keeper.begin(0.05, lambda: passed.append(True))
    eventually(lambda: passed)
    assert not pool.sweeps
    starter.refuses = False
    eventually(lambda: pool.sweeps)
    del kept


# ---- when it is killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_killed_it_is_started_by_the_next_need(keeper, starter, monkeypatch, caplog, error):
    """As by PyThreadState_SetAsyncExc, which tests/unit/test_processes.py tries in earnest."""
    pool, raised, fired = Pool(), [], []

    def fail(watch, seconds):
        raised.append(True)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "wait", fail)
        keeper.sweep(pool, uptime() + 0.01)
        eventually(lambda: raised and not starter.alive)
    assert f"the housekeeper has ended: {error.__name__}" in caplog.text
    assert not keeper.running
    assert not pool.sweeps
    kept = keeper.begin(0.001, lambda: fired.append(True))
    eventually(lambda: fired)
    eventually(lambda: pool.sweeps)
    del kept


def test_a_watch_whose_descriptors_were_closed_under_it_is_replaced(keeper, starter):
    """As programs do that become daemons: they close every descriptor that they do not know."""
    fired = []
    first = keeper.begin(0.001, lambda: fired.append("first"))
    eventually(lambda: fired and not starter.alive)
    broken = keeper._watch
    broken.close()
    try:
        kept = []
        for number in range(3):  # the first ones may find it broken
            kept.append(keeper.begin(0.001, lambda number=number: fired.append(number)))
            eventually(lambda: not starter.alive)
    finally:
        keeper._watch = None if keeper._watch is broken else keeper._watch
    assert 2 in fired
    del first, kept


def test_a_dying_one_says_nothing_while_the_interpreter_shuts_down(keeper, starter, caplog, monkeypatch):
    def fail(watch, seconds):
        monkeypatch.setattr(sys, "is_finalizing", lambda: True)
        raise ValueError

    monkeypatch.setattr(Watch, "wait", fail)
    keeper.begin(LONG, lambda: None)
    eventually(lambda: starter.started and not starter.alive)
    module._try(lambda: 1 / 0)
    monkeypatch.undo()
    assert caplog.text == ""


# ---- fork --------------------------------------------------------------------------------------------------


def test_it_rests_during_a_fork_and_goes_on_afterwards(keeper, starter):
    fired = []
    kept = keeper.begin(LONG, lambda: None)
    soon = keeper.begin(0.3, lambda: fired.append(True))
    keeper.pause()
    eventually(lambda: not starter.alive)
    assert keeper.begin(0.001, lambda: None) is None, "started during a fork"
    assert not starter.alive
    keeper.resume()
    assert len(starter.alive) == 1
    eventually(lambda: fired)
    assert keeper.cancel(kept)
    del soon


def test_a_fork_while_it_is_not_needed_starts_nothing(keeper, starter):
    keeper.pause()
    keeper.resume()
    keeper.begin_anew()
    assert not starter.started


def test_a_fork_does_not_wait_for_one_that_is_busy(keeper, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.001)
    go, busy = threading.Event(), threading.Event()
    kept = keeper.begin(0.001, lambda: (busy.set(), go.wait(10)))
    assert busy.wait(10)
    keeper.pause()  # comes back
    keeper.resume()
    go.set()
    del kept


def test_a_child_begins_anew_with_nothing_of_the_parents(starter):
    """Called here in the parent, whose housekeeper it would be."""
    with ExitStack() as stack:
        keeper = Housekeeper()
        kept = keeper.begin(LONG, lambda: None)
        keeper.pause()
        eventually(lambda: not starter.alive)
        before = keeper._watch
        keeper.begin_anew()
        assert (keeper._watch, keeper._deadlines, keeper._due) == (None, {}, {})
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(before._ear)
        fired = []
        deadline = keeper.begin(0.001, lambda: fired.append(True))
        eventually(lambda: fired and not starter.alive)
        stack.callback(keeper._watch.close)
        del kept, deadline


def test_a_deadline_is_no_garbage_that_waits_for_the_collector(keeper):
    """It is held weakly: a cycle would keep it, and what it acts on, until the next collection."""
    gc.disable()
    try:
        deadline = keeper.begin(LONG, lambda: None)
        ref = deadline.ref
        del deadline
        assert ref() is None
    finally:
        gc.enable()
