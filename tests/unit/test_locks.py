"""The lock that gives back what it took, if an interrupt strikes before `with` would."""

from __future__ import annotations

import _thread
import sys

import pytest

from dbpool.locks import RLock, WholeRLock

pytestmark = [
    pytest.mark.synchronous,
    pytest.mark.skipif(not hasattr(_thread.RLock, "_recursion_count"), reason="CPython 3.14 has it, and needs it"),
]


class Struck(BaseException):
    """Stands for KeyboardInterrupt."""


class Striking(WholeRLock):
    """An interrupt strikes when it has just been taken, or while it is waited for."""

    when = ""

    def acquire(self, *args):
        if self.when == "before":
            raise Struck
        taken = super().acquire(*args)
        if self.when == "after":
            raise Struck
        return taken


@pytest.mark.parametrize("when", ["before", "after"])
def test_it_is_not_left_taken(when):
    lock = Striking()
    lock.when = when
    with pytest.raises(Struck), lock:
        raise AssertionError("it was entered")
    assert not lock._is_owned()


@pytest.mark.parametrize("when", ["before", "after"])
def test_one_that_was_taken_already_stays_so(when):
    lock = Striking()
    with lock:
        lock.when = when
        with pytest.raises(Struck), lock:
            raise AssertionError("it was entered")
        assert lock._is_owned()
    assert not lock._is_owned()


def test_it_is_a_lock():
    with WholeRLock() as taken:
        assert taken


def test_it_is_used_where_it_is_needed():
    assert (RLock is WholeRLock) is (sys.version_info[:2] == (3, 14))
