"""The state machine alone: connections that are lost or doubted, vouched for, aged, rejected, borrowed and put back."""

from __future__ import annotations

from collections import deque

import pytest

from dbpool.entry import ALIVE, RETIRED, record
from dbpool.errors import PoolExhausted
from dbpool.state import PoolState

from .pure import NOW, Alike, Caller, Conn, leased, opened


@pytest.fixture
def state():
    return PoolState("alone", 0, 9, look_in=10.0)


def entry_of(state, conn):
    return state.entries[id(conn)]


def twin_of(state, conn):
    """Return another entry of the same connection, which the driver has returned twice."""
    return record(conn, NOW, None, state.lost.append)


# ---- lost and doubted ------------------------------------------------------------------------------------------


def test_a_drain_retires_all_at_once_and_what_is_being_opened(state):
    conns, ticket = opened(state, 2), state.issue(NOW)
    state.match(NOW)
    assert not state.gate
    state.drain()
    assert state.gate
    assert [entry_of(state, conn).use_by for conn in conns] == [RETIRED, RETIRED]
    assert ticket.generation != state.generation


@pytest.mark.parametrize("cut_off", [False, True])
def test_for_one_that_is_lost_all_are_doubted_and_what_was_cut_off_is_counted(state, cut_off):
    conn, other = opened(state, 2)
    state.mourn(entry_of(state, conn), cut_off)
    assert (state.aborted, entry_of(state, conn).aborted) == (int(cut_off), cut_off)
    assert (entry_of(state, other).suspect, state.doubts) == (ALIVE, 1)


def test_what_we_are_closing_is_not_lost(state):
    conn, other = opened(state, 2)
    state.condemn(conn, "surplus")
    state.lose([entry_of(state, conn)])
    assert (entry_of(state, conn).fate, state.doubts, state.drained) == ("surplus", 0, {})
    assert entry_of(state, other).suspect == 0


def test_what_is_not_in_the_pool_is_not_lost(state):
    (conn,) = opened(state)
    twin = twin_of(state, conn)
    state.lose([twin])
    assert (twin.fate, state.doubts, state.drained) == (None, 0, {})


def test_a_look_does_not_make_good_what_is_retired(state):
    (conn,) = opened(state)
    entry = entry_of(state, conn)
    state.doubt()
    state.retire(entry)
    state.vouch(entry, NOW + 5, state.doubts)
    assert (entry.suspect, entry.seen, entry.look_at) == (ALIVE, NOW, RETIRED)


# ---- given, and of no use --------------------------------------------------------------------------------------


def test_a_hit_does_not_overtake_who_was_given_a_dead_one(state):
    (conn,) = opened(state)
    caller = leased(state, conn)
    assert not state.gate
    assert state.reject(caller, "lost") is conn
    assert state.gate
    assert entry_of(state, conn).fate == "lost"


def test_who_is_patient_waits_for_a_server_that_does_not_answer(state):
    caller = Caller()
    state.arrive(caller)
    state.distrust(caller, NOW + 5)
    assert (state.retry_at, caller.error, list(state.waiters)) == (NOW + 5, None, [caller])


def test_who_is_not_patient_is_told_that_the_server_does_not_answer_and_why(state):
    caller = Caller()
    caller.limit = 0
    state.arrive(caller)
    state.last_error = ValueError()
    state.distrust(caller, NOW + 5)
    assert isinstance(caller.error, PoolExhausted)
    assert str(caller.error) == "connection pool exhausted: the server lets us in, but does not answer"
    assert caller.error.__cause__ is state.last_error
    assert (state.retry_at, caller.woken, len(state.waiters)) == (NOW + 5, 1, 0)


# ---- borrowing -------------------------------------------------------------------------------------------------


def test_only_the_entrys_own_connection_is_borrowed(state):
    first, second = opened(state, 2, kind=Alike)
    assert state.borrow(entry_of(state, second)) is second
    assert state.borrow(twin_of(state, first)) is None
    assert list(state.idle) == [first]


def last_leased(state, *times):
    """Have connections that were last leased at these times lie in this order; return one more, which was borrowed."""
    *conns, conn = opened(state, len(times) + 1)
    for each, time in zip(conns, times):
        entry_of(state, each).since = time
    state.idle.remove(conn)
    return conns, conn, entry_of(state, conn)


@pytest.mark.parametrize(
    ("time", "times", "place"),
    [
        (2.5, [1.0, 2.0, 3.0, 4.0], 2),
        (0.5, [1.0, 2.0, 3.0, 4.0], 0),
        (9.0, [1.0, 2.0, 3.0, 4.0], 4),
        (2.0, [1.0, 2.0, 2.0, 3.0], 3),
        (3.0, [5.0, 1.0, 6.0, 4.0], 2),
        (3.0, [], 0),
    ],
)
def test_one_that_was_borrowed_is_put_back_before_those_that_were_leased_after_it(state, time, times, place):
    conns, conn, entry = last_leased(state, *times)
    entry.since = time
    state.put_back(entry, conn)
    conns.insert(place, conn)
    assert list(state.idle) == conns


def test_one_that_is_not_known_any_more_ends_the_look_for_its_place(state):
    conns, conn, entry = last_leased(state, 3.0, 3.0, 3.0)
    entry.since = 2.0
    del state.entries[id(conns[1])]
    state.put_back(entry, conn)
    assert list(state.idle) == [*conns[:2], conn, conns[2]]


def test_hits_that_take_others_meanwhile_do_not_change_its_place(state):
    class Hit(deque):
        def copy(self):
            """What lay there before two hits."""
            before = deque(self)
            self.pop(), self.pop()
            return before

    conns, conn, entry = last_leased(state, 3.0, 3.0, 3.0, 3.0)
    entry.since = 2.0
    state.idle = Hit(state.idle)
    state.put_back(entry, conn)
    assert list(state.idle) == [conn, *conns[:2]]


def test_a_stranger_that_lies_there_is_not_borrowed(state):
    (conn,) = opened(state)
    state.idle.append(Conn())
    assert state.borrow(entry_of(state, conn)) is conn
    assert len(state.idle) == 1
