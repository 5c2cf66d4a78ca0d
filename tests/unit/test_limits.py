"""The state machine alone: which idle connections are closed, and which not: too many, too old, idle for too long."""

from __future__ import annotations

import pytest

from dbpool.entry import FOR_EVER
from dbpool.state import PoolState

from .pure import NOW, Conn, opened


def fates(state):
    """Why those that are being closed are."""
    return [entry.fate for entry in state.closing.values()]


def some(state, number=5, closing=2, **options):
    """Have *number* connections; return the first *closing*, which are being closed, and all others, which are idle."""
    limits, state.waiters.permits, state.maxconn = (state.minconn, state.maxconn), None, 99
    conns = opened(state, number, **options)
    for conn in conns[:closing]:
        state.idle.remove(conn)
        state.condemn(conn, "lost")
    state.set_limits(*limits)
    return conns[:closing], conns[closing:]


# ---- too many --------------------------------------------------------------------------------------------------


def test_as_many_as_may_be_stay_and_what_is_being_closed_is_not_counted():
    state = PoolState("alone", 0, 3)
    _kept, conns = some(state)
    assert state.match(NOW).close == []
    assert list(state.idle) == conns


def test_the_oldest_of_too_many_are_closed_and_no_more():
    state = PoolState("alone", 0, 2)
    _kept, (first, *others) = some(state)
    assert state.match(NOW).close == [first]
    assert list(state.idle) == others
    assert fates(state)[2:] == ["surplus"]


def test_those_of_the_overflow_are_closed_when_they_come_back():
    state = PoolState("alone", 0, 2, max_overflow=1)
    _kept, (first, *others) = some(state)
    assert state.match(NOW).close == [first]
    assert list(state.idle) == others
    assert fates(state)[2:] == ["overflow"]


def test_within_maxconn_nothing_is_overflow():
    state = PoolState("alone", 0, 3, max_overflow=None)
    _kept, conns = some(state)
    assert state.match(NOW).close == []
    assert list(state.idle) == conns


@pytest.mark.parametrize("minconn", [0, 1, 3, 4])
def test_where_no_surplus_is_kept_all_but_minconn_are_closed(minconn):
    state = PoolState("alone", minconn, 9, keep_surplus=False)
    _kept, conns = some(state)
    assert state.match(NOW).close == conns[: max(0, 3 - minconn)]
    assert set(fates(state)[2:]) <= {"surplus"}


def test_of_a_closed_pool_all_are_closed():
    state = PoolState("alone", 2, 9)
    _kept, conns = some(state)
    state.shut()
    assert state.match(NOW).close == conns
    assert fates(state)[2:] == ["closed"] * 3


def test_of_those_that_were_drained_all_that_are_idle_are_closed():
    state = PoolState("alone", 2, 9)
    _kept, old = some(state)
    state.drain()
    new = opened(state)
    state.idle.rotate(1)  # which lies before them
    assert state.match(NOW).close == old
    assert list(state.idle) == new
    assert fates(state)[2:] == ["drained"] * 3


# ---- idle for too long -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "number"), [(9, 0), (10, 3), (11, 3)])
def test_those_idle_for_too_long_are_closed_from_then_on(after, number):
    state = PoolState("alone", 0, 9, idle_limit=10.0)
    _kept, conns = some(state)
    assert state.match(NOW + after).close == conns[:number]
    assert fates(state)[2:] == ["idle"] * number


@pytest.mark.parametrize(("minconn", "number"), [(2, 1), (3, 0), (4, 0)])
def test_minconn_stay_however_long_they_are_idle_and_what_is_being_closed_is_not_counted(minconn, number):
    state = PoolState("alone", minconn, 9, idle_limit=10.0)
    _kept, conns = some(state)
    state.expire(NOW + 99, doomed := [])
    assert doomed == conns[:number]
    assert state.match(NOW + 99).close == []


def test_what_was_used_last_hides_nothing_that_is_idle_for_longer():
    state = PoolState("alone", 0, 9, idle_limit=10.0)
    first, second, third = opened(state, 3)
    state.entries[id(third)].since = NOW + 5
    assert state.match(NOW + 12).close == [first, second]
    assert list(state.idle) == [third]


def test_what_was_used_just_now_and_lies_first_ends_the_look():
    """Those used least lie first: nothing behind one that stays is looked at."""
    state = PoolState("alone", 0, 9, idle_limit=10.0)
    first, *_ = opened(state, 3)
    state.entries[id(first)].since = NOW + 5
    assert state.match(NOW + 12).close == []


# ---- too old ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "over"), [(9, None), (10, "lifetime"), (11, "lifetime")])
def test_a_lifetime_is_over_from_its_end_on(after, over):
    state = PoolState("alone", 9, 9)
    (conn,) = opened(state, lifetime=10.0)
    assert state._over(state.entries[id(conn)], NOW + after) == over


@pytest.fixture
def old_and_new():
    """Three whose lifetime is over, among two others."""
    state = PoolState("alone", 0, 9)
    opened(state, 5)
    for number in (0, 2, 3):
        state.entries[id(state.idle[number])].use_by = NOW
    return state, list(state.idle)


def test_all_that_are_too_old_are_closed_wherever_they_lie(old_and_new):
    state, conns = old_and_new
    state.set_limits(5, 9)
    doomed = []
    assert state.expire(NOW, doomed) is False
    assert doomed == [conns[0], conns[2], conns[3]]
    assert list(state.idle) == [conns[1], conns[4]]


def test_one_by_one_what_must_be_replaced_is_left_for_later(old_and_new):
    state, conns = old_and_new
    state.set_limits(5, 9)
    doomed = []
    assert state.expire(NOW, doomed, one_by_one=True) is True
    assert doomed == conns[:1]
    assert list(state.idle) == conns[1:]


def test_one_by_one_what_need_not_be_replaced_is_closed_at_once(old_and_new):
    state, conns = old_and_new
    doomed = []
    assert state.expire(NOW, doomed, one_by_one=True) is False
    assert doomed == [conns[0], conns[2], conns[3]]
    assert list(state.idle) == [conns[1], conns[4]]


def test_one_by_one_those_over_minconn_and_one_more_are_closed(old_and_new):
    state, conns = old_and_new
    state.set_limits(4, 9)
    doomed = []
    assert state.expire(NOW, doomed, one_by_one=True) is True
    assert doomed == [conns[0], conns[2]]
    assert list(state.idle) == [conns[1], conns[3], conns[4]]


def test_one_that_is_left_for_later_is_told_of_though_others_stay_for_good(old_and_new):
    state, conns = old_and_new
    state.set_limits(5, 9)
    state.idle.rotate(-2)  # the last two stay for good, or are left for later
    doomed = []
    assert state.expire(NOW, doomed, one_by_one=True) is True
    assert doomed == [conns[2]]


def test_nothing_is_left_for_later_where_none_is_too_old():
    state = PoolState("alone", 3, 3)
    conns = opened(state, 3, lifetime=FOR_EVER)
    assert state.expire(NOW, [], one_by_one=True) is False
    assert list(state.idle) == conns


def test_what_is_not_known_any_more_hides_nothing_that_is_too_old(old_and_new):
    state, conns = old_and_new
    state.idle.appendleft(Conn())
    doomed = []
    state.expire(NOW, doomed)
    assert len(doomed) == 3
    assert list(state.idle) == [conns[1], conns[4]]


@pytest.mark.parametrize(("minconn", "short"), [(2, False), (3, False), (4, True)])
def test_short_is_who_has_less_than_minconn_not_counting_what_is_being_closed(minconn, short):
    state = PoolState("alone", minconn, 9)
    _kept, _ = some(state)
    assert state._is_short() is short


def test_of_old_ones_that_were_put_back_first_the_next_is_closed_only_when_the_last_was_replaced():
    state = PoolState("alone", 2, 9)
    first, second, third = opened(state, 3, lifetime=10.0)
    assert state.match(NOW + 10).close == [first, second]
    assert list(state.idle) == [third]
    opened(state, now=NOW + 10)
    assert state.match(NOW + 10).close == [third]
