"""FifoSemaphore alone: permits, the line, and waiters that are gone before they have left it."""

from __future__ import annotations

import gc

import pytest

from dbpool.semaphore import FEW, FifoSemaphore, Waiter

from .pure import Caller


@pytest.fixture
def gone():
    return []


@pytest.fixture
def line(gone):
    return FifoSemaphore(2, gone.append)


def joined(line, number):
    callers = [Caller() for _ in range(number)]
    for caller in callers:
        line.join(caller)
    return callers


@pytest.mark.parametrize(("out", "room"), [(0, 2), (1, 1), (2, 0), (3, -1)])
def test_there_is_room_for_as_many_as_are_not_out(line, out, room):
    assert line.room(out) == room


def test_without_permits_there_is_always_room(gone):
    assert FifoSemaphore(None, gone.append).room(10**9) == float("inf")


def test_first_come_first_in_line(line):
    first, second, third = callers = joined(line, 3)
    assert list(line) == callers
    assert line.head() is first
    line.leave(second)
    line.leave(first)
    assert line.head() is third
    assert len(line) == 1


def test_who_comes_back_to_the_head_is_before_all_others(line):
    callers = joined(line, 2)
    again = Caller()
    line.return_to_head(again)
    assert list(line) == [again, *callers]


def test_who_is_in_line_has_a_place(line):
    first, second = joined(line, 2)
    line.leave(first)
    assert first.place is None
    assert second.place is line.queue[0]


def test_leaving_twice_is_leaving(line):
    first, second = joined(line, 2)
    line.leave(first)
    line.leave(first)
    assert list(line) == [second]


# ---- who leaves from the midst -------------------------------------------------------------------------------


def test_who_leaves_from_the_midst_is_counted_and_named_no_more(line):
    first, second, third = joined(line, 3)
    line.leave(second)
    assert list(line) == [first, third]
    assert len(line) == 2
    line.leave(first)
    assert line.head() is third
    assert (len(line), len(line.queue), len(line.left)) == (1, 1, 0)


def test_who_left_from_the_midst_may_come_again(line):
    first, second, third = joined(line, 3)
    line.leave(second)
    line.join(second)
    assert list(line) == [first, third, second]
    line.leave(first)
    line.leave(third)
    assert line.head() is second
    assert len(line) == 1


def test_one_that_is_gone_after_it_left_from_the_midst_is_forgotten_once(line, gone):
    callers = joined(line, 3)
    line.leave(callers[1])
    del callers[1]
    (place,) = gone
    line.forget(place)
    assert list(line) == callers
    assert len(line) == 2
    line.leave(callers[0])
    assert line.head() is callers[1]
    line.forget(place)
    assert len(line) == 1


def test_when_most_have_left_the_others_close_up(line):
    callers = joined(line, 100)
    for caller in callers[1:98]:
        line.leave(caller)
    assert list(line) == [callers[0], *callers[98:]]
    assert len(line) == 3
    assert len(line.queue) <= 3 + FEW + 1
    assert set(line.left) <= set(line.queue)


@pytest.mark.parametrize("number", range(2, 60))
def test_whoever_leaves_the_others_stay_in_their_order(line, number):
    callers = joined(line, number)
    going = [caller for at, caller in enumerate(callers) if (at * 7 + 3) % number % 3]
    for caller in going:
        line.leave(caller)
    staying = [caller for caller in callers if caller not in going]
    assert list(line) == staying
    assert len(line) == len(staying)
    for caller in staying:
        assert line.head() is caller
        line.leave(caller)
    assert line.head() is None
    assert (len(line), len(line.queue), len(line.left)) == (0, 0, 0)


def test_a_place_that_an_interrupt_made_nobodys_is_taken_off_at_the_head(line):
    """It struck between two steps of leave(): the waiter has no place any more, and its place was not marked."""
    first, second, third = joined(line, 3)
    second.place = None
    assert list(line) == [first, third]
    line.leave(second)
    line.leave(first)
    assert line.head() is third
    assert (len(line), len(line.queue)) == (1, 1)


def test_others_that_close_up_are_counted_too_often_rather_than_not_at_all(line):
    """An interrupt strikes between the two steps of closing up."""
    callers = joined(line, 40)
    for caller in callers[1:19]:
        line.leave(caller)
    line.left = {}
    assert len(line) == 40
    assert list(line) == [callers[0], *callers[19:]]
    line.leave(callers[0])
    assert line.head() is callers[19]
    assert len(line) == 21


def test_in_a_forked_child_nobody_waits_and_who_forked_may_leave(line):
    first, second, third = joined(line, 3)
    line.leave(second)
    line.clear()
    assert (len(line), list(line), line.head()) == (0, [], None)
    line.join(third)
    line.leave(first)
    assert list(line) == [third]


def test_the_threads_that_wait_are_named_once_each(line):
    callers = [Caller(ident=ident) for ident in (7, 8, 7)]
    for caller in callers:
        line.join(caller)
    assert line.idents() == {7, 8}


def test_who_has_left_leaves_nothing_to_be_told_of(line, gone):
    (caller,) = joined(line, 1)
    line.leave(caller)
    del caller
    gc.collect()
    assert gone == []


def test_who_is_gone_without_leaving_is_told_of_passed_over_and_can_be_forgotten(line, gone):
    first, second = joined(line, 2)
    del first
    assert len(gone) == 1
    assert list(line) == [second]
    assert len(line) == 2
    line.forget(gone[0])
    assert len(line) == 1


def test_looking_for_the_head_forgets_those_who_are_gone(line):
    callers = joined(line, 3)
    del callers[:2]
    assert line.head() is callers[0]
    assert len(line) == 1
    callers.clear()
    assert line.head() is None
    assert len(line) == 0


def test_one_that_died_just_before_it_was_in_line_can_be_forgotten(line, gone):
    """An interrupt strikes between two steps of join()."""

    class Struck(Caller):
        def _strike(self, place):
            raise KeyboardInterrupt

        place = property(lambda self: None, lambda self, place: place and self._strike(place))

    with pytest.raises(KeyboardInterrupt):
        line.join(Struck())
    gc.collect()
    (place,) = gone
    line.forget(place)
    assert len(line) == 0


def test_who_has_just_come_is_patient_has_not_slept_and_has_been_given_nothing():
    waiter = Waiter("key", 7, 5.0)
    assert (waiter.key, waiter.ident, waiter.since) == ("key", 7, 5.0)
    assert (waiter.limit, waiter.patient, waiter.slept) == (None, True, False)
    assert (waiter.lease, waiter.unused) == (0, None)
    assert (waiter.conn, waiter.error, waiter.ticket, waiter.place) == (None, None, None, None)


def test_how_a_waiter_is_woken_is_the_shells_to_say():
    with pytest.raises(NotImplementedError):
        Waiter(None, 1, 0.0).wake()
