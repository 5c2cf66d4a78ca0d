"""The registry alone: what comes of a connect: a connection, an error for somebody, a time-out, a refusal."""

from __future__ import annotations

import gc

import pytest

from dbpool.entry import RETIRED, record
from dbpool.errors import PoolTimeout
from dbpool.state import PoolState

from .pure import NOW, Caller, Conn, opened, queued


@pytest.fixture
def state():
    return PoolState("alone", 0, 3, connect_limit=10.0)


def begun(state, *, owner=None):
    """Return a connect that was begun."""
    ticket = state.issue(NOW, owner and owner.place)
    assert state.begin(ticket)
    return ticket


def test_what_was_opened_is_idle_counted_and_ends_what_was_said_of_failures(state):
    ticket, conn = begun(state), Conn()
    state.match(NOW)
    state.last_error, state.retry_at = ValueError(), NOW + 5
    entry = record(conn, NOW, None, state.lost.append)
    assert state.adopt(ticket, entry, conn) is True
    assert (list(state.idle), state.entries, state.size(), state.opened) == ([conn], {id(conn): entry}, 1, 1)
    assert (state.last_error, state.is_refused()) == (None, False)
    assert state.gate, "whoever waits is to be served first"
    assert entry.fate is None
    assert not state.drained


def test_its_slot_is_never_free_while_it_is_taken_in(state):
    ticket, conn, sizes = begun(state), Conn(), []
    real = state.end
    state.end = lambda ticket: (sizes.append(state.size()), real(ticket), sizes.append(state.size()))
    state.adopt(ticket, record(conn, NOW, None, state.lost.append), conn)
    assert sizes == [2, 1]


def test_a_failure_is_counted_and_named_as_the_cause_of_later_time_outs(state):
    errors = [ValueError("first"), ValueError("second")]
    for number, error in enumerate(errors, 1):
        assert state.fail(begun(state), error, error) is False
        assert (state.connect_errors, state.last_error, state.size()) == (number, error, 0)
    state.fail(begun(state), ValueError("third"))
    assert state.last_error is errors[1], "none to keep"


def test_a_failure_is_its_owners_who_then_is_out_of_the_line(state):
    caller, other, error = Caller(), Caller(), ValueError()
    queued(state, caller, other)
    woken = caller.woken
    assert state.begin(caller.ticket)
    assert state.fail(caller.ticket, error) is True
    assert (caller.error, caller.woken, list(state.waiters)) == (error, woken + 1, [other])
    assert other.error is None


def test_the_failure_of_who_died_is_nobodys(state):
    caller = Caller()
    queued(state, caller)
    ticket = caller.ticket
    del caller
    gc.collect()
    assert state.fail(ticket, ValueError()) is False


def test_a_connect_that_takes_too_long_is_left_behind_and_those_after_it_are_not(state):
    late, ticket = state.issue(NOW), state.issue(NOW + 1)
    state.match(NOW + 10)
    assert (late.ref, state.aborted, state.connect_errors) == (None, 1, 1)
    assert isinstance(state.last_error, PoolTimeout)
    assert "opening one took longer than connect_timeout allows" in str(state.last_error)
    assert list(state.tickets) == [ticket.ref]
    state.match(NOW + 11)
    assert (state.aborted, state.size()) == (2, 0)


def test_a_connect_that_died_is_passed_over_by_those_that_are_too_late(state):
    state.issue(NOW)
    late = state.issue(NOW)
    state.lost.clear()  # not reaped yet
    state.match(NOW + 10)
    assert (late.ref, state.aborted, state.size()) == (None, 1, 0)


def test_who_is_told_of_a_time_out_has_an_error_of_its_own(state):
    caller = Caller()
    queued(state, caller)
    state.begin(caller.ticket)
    state.match(NOW + 10)
    assert isinstance(caller.error, PoolTimeout)
    assert "opening one took longer than connect_timeout allows" in str(caller.error)
    assert caller.error is not state.last_error


def test_who_is_patient_connects_when_the_server_may_be_asked_again_but_one_at_a_time(state):
    state.retry_at = NOW + 5
    assert [state.may_connect(NOW + seconds) for seconds in (4, 5, 6)] == [False, True, True]
    ticket = state.issue(NOW)
    assert not state.may_connect(NOW + 6)
    assert state.may_connect(NOW, patient=False)
    assert ticket.ref in state.tickets


def test_after_a_refusal_what_is_missing_is_opened_one_by_one_until_one_succeeds(state):
    state.set_limits(2, 3)
    assert state.to_open() == 2
    state.fail(begun(state), ValueError(), None, "permanent", NOW + 5)
    assert (state.to_open(), state.refill_at) == (1, NOW + 5)
    state.fail(begun(state), ValueError())
    assert state.to_open() == 1
    opened(state)
    assert (state.to_open(), state.refill_at) == (1, RETIRED)
    state.set_limits(3, 3)
    assert state.to_open() == 2
    opened(state, 2)
    assert state.to_open() == 0


@pytest.mark.parametrize("number", [1, 300])
def test_those_that_are_being_closed_give_no_hope_however_many(number):
    state = PoolState("alone", 0, 999)
    conns = opened(state, number)
    for conn in conns:
        state.condemn(conn, "lost")
    caller = Caller()
    state.arrive(caller)
    state.fail(begun(state, owner=caller), ValueError(), None, "permanent", NOW + 5)
    assert isinstance(caller.error, ValueError)
    assert not state.is_refused()
