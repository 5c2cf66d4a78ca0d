"""The state machine under a limiter: what it wishes for there, and which of its idle connections it owes to others."""

from __future__ import annotations

import pytest

from dbpool import Limiter
from dbpool.state import PoolState

from .pure import NOW, Caller, leased, opened, queued


def state_under(limiter, maxconn=9, **options):
    state = PoolState("alone", 0, maxconn, limiter=limiter, **options)
    limiter.join(state, None)
    return state


@pytest.fixture
def limiter():
    return Limiter(3)


@pytest.fixture
def state(limiter):
    return state_under(limiter)


@pytest.fixture
def other(limiter):
    return state_under(limiter)


# ---- wishes --------------------------------------------------------------------------------------------------


def test_it_wishes_for_those_who_wait_only_because_of_the_limiter(state, other):
    opened(other, 3)
    queued(state, Caller(since=NOW), Caller(since=NOW + 1), now=NOW + 2)
    assert state.wishes == [NOW, NOW + 1]
    assert other.wishes == []


def test_it_wishes_for_nobody_for_whom_a_connection_is_under_way(state, other):
    opened(other, 2)
    callers = [Caller(since=NOW + number) for number in range(3)]
    queued(state, *callers)
    assert [caller.ticket is not None for caller in callers] == [True, False, False]
    assert state.wishes == [NOW + 1, NOW + 2]


def test_it_wishes_for_one_whose_connect_has_ended(state, other):
    opened(other, 2)
    (caller,) = callers = [Caller()]
    queued(state, *callers)
    state.end(caller.ticket)
    opened(other)
    state.match(NOW)
    assert state.wishes == [NOW]


def test_it_wishes_for_no_more_than_have_room_here(limiter, other):
    state = state_under(limiter, maxconn=2)
    opened(other, 3)
    queued(state, *[Caller(since=NOW + number) for number in range(4)])
    assert state.wishes == [NOW, NOW + 1]


def test_it_wishes_for_nobody_while_it_has_more_than_it_may(limiter, other):
    state = state_under(limiter, maxconn=2)
    kept = [leased(state, *opened(state)).conn for _ in range(2)]
    opened(other)
    state.set_limits(0, 1)
    queued(state, Caller(), Caller())
    assert state.wishes == []
    assert len(kept) == 2


def test_it_wishes_for_no_more_than_those_for_whom_none_is_under_way(state, other):
    """A connect whose owner was served otherwise serves another."""
    opened(other)
    tickets, callers = [state.issue(NOW), state.issue(NOW)], [Caller(since=NOW + number) for number in range(3)]
    for number, caller in enumerate(callers):
        queued(state, caller, now=NOW + 5)
        assert state.wishes == [NOW] * (number == 2)
    assert len(state.tickets) == len(tickets)


def test_it_wishes_for_nothing_while_it_may_not_connect(state, other):
    opened(other, 3)
    caller = Caller()
    state.retry_at = NOW + 5
    queued(state, caller)
    assert state.wishes == []
    state.match(NOW + 5)
    assert state.wishes == [NOW]


def test_what_was_wished_is_forgotten_once_it_is_served(state, other):
    opened(other, 2)
    callers = [Caller(), Caller()]
    queued(state, *callers)
    assert state.wishes == [NOW]
    state.depart(callers[1])
    state.match(NOW)
    assert state.wishes == []


# ---- debts ---------------------------------------------------------------------------------------------------


def test_idle_ones_are_closed_for_as_many_as_wait_elsewhere(state, other):
    first, second, third = opened(state, 3)
    state.set_limits(0, 9)
    queued(other, Caller(), Caller())
    assert state.match(NOW + 1).close == [first], "one at a time: the next may be another pool's"
    assert state.gate, "it has to look again"
    assert state.match(NOW + 1).close == [second]
    assert state.match(NOW + 1).close == []
    assert [entry.fate for entry in state.closing.values()] == ["limiter", "limiter"]
    assert list(state.idle) == [third]


def test_no_more_are_closed_than_are_idle(state, other):
    opened(state, 3)
    caller = leased(state, state.idle[-1])
    queued(other, Caller(), Caller(), Caller())
    assert [len(state.match(NOW + 1).close) for _ in range(3)] == [1, 1, 0]
    assert not state.idle
    assert id(caller.conn) in state.leases


def test_who_came_before_those_who_wait_elsewhere_is_served_first(state, other):
    (conn,) = opened(state)
    opened(other, 2)
    queued(other, Caller(since=NOW + 2), now=NOW + 3)
    early = Caller(since=NOW + 1)
    assert queued(state, early, now=NOW + 4).close == []
    assert early.conn is conn


def test_who_came_after_those_who_wait_elsewhere_is_not(state, other):
    (conn,) = opened(state)
    holders = [leased(other, *opened(other)) for _ in range(2)]
    queued(other, Caller(since=NOW + 2), now=NOW + 3)
    late = Caller(since=NOW + 3)
    assert queued(state, late, now=NOW + 4).close == [conn]
    assert late.conn is None
    assert len(other.leases) == len(holders)


def test_the_gate_is_shut_while_something_is_owed_and_opens_then(state, other):
    holders = [leased(state, *opened(state)) for _ in range(3)]
    caller = Caller()
    queued(other, caller)
    state.match(NOW)
    assert state.gate, "what comes back belongs to another pool's caller"
    other.depart(caller)
    other.match(NOW)
    state.match(NOW)
    assert not state.gate
    assert len(state.leases) == len(holders)
