"""The registry alone: its limits and figures, rights to connect and what comes of them."""

from __future__ import annotations

import gc

import pytest

from dbpool import Limiter
from dbpool.entry import RETIRED
from dbpool.state import PoolState

from .pure import NOW, Caller, leased, opened


@pytest.fixture
def state():
    return PoolState("alone", 0, 3, connect_limit=10.0)


# ---- what a new one is -----------------------------------------------------------------------------------------


def test_a_new_one_has_nothing_has_counted_nothing_and_diverts_hits_until_it_is_matched(state):
    assert (state.name, state.minconn, state.maxconn, state.size()) == ("alone", 0, 3, 0)
    assert (state.opened, state.aborted, state.connect_errors) == (0, 0, 0)
    assert (state.timeouts, state.refused, state.uses_of_closed) == (0, 0, 0)
    assert (state.generation, state.doubts, state.discards, state.wishes, state.again) == (0, 0, {}, [], [])
    assert (state.closed, state.last_error, state.is_refused(), state.limiter) == (False, None, False, None)
    assert state.gate
    state.match(NOW)
    assert not state.gate


def test_unless_told_otherwise_it_opens_at_once_keeps_for_ever_and_lets_anybody_wait():
    state = PoolState("alone", 0, 3)
    assert [state.try_issue(NOW) is not None for _ in range(4)] == [True, True, True, False]
    state.tickets.clear()
    conns = opened(state, 2)
    assert state.match(NOW + 10**9).close == []
    assert leased(state, conns[1], now=NOW + 10**9).unused is None
    ticket = state.issue(NOW)
    state.match(NOW + 10**9)
    assert ticket.ref in state.tickets, "a connect may take as long as it likes"
    assert state._fit(Caller(), NOW, []) is conns[0], "every connection is fit"


@pytest.mark.parametrize(("oldest_first", "taken"), [(False, 1), (True, 0)])
def test_which_of_the_idle_ones_is_taken_and_where_it_is_put_back_untouched(oldest_first, taken):
    state = PoolState("alone", 0, 2, oldest_first=oldest_first)
    conns = opened(state, 2)
    conn = state.take()
    assert conn is conns[taken]
    state.untake(conn)
    assert list(state.idle) == conns


def test_a_listener_diverts_all_hits():
    state = PoolState("alone", 0, 2, divert=True)
    state.match(NOW)
    assert state.gate


# ---- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("overflow", "room"), [(0, 2), (3, 5), (None, float("inf"))])
def test_there_is_room_for_maxconn_and_the_overflow(overflow, room):
    assert PoolState("alone", 0, 2, max_overflow=overflow).waiters.room(0) == room


def test_new_limits_are_acted_on_at_the_next_match(state):
    conns = opened(state, 3)
    state.match(NOW)
    assert not state.gate
    state.set_limits(1, 2)
    assert (state.gate, state.minconn, state.maxconn) == (True, 1, 2)
    assert state.match(NOW).close == conns[:1]


@pytest.mark.parametrize(("keep", "minconn", "gate"), [(True, 0, False), (False, 0, True), (False, 2, False)])
def test_hits_pass_while_no_more_are_open_than_are_kept(keep, minconn, gate):
    state = PoolState("alone", minconn, 3, keep_surplus=keep)
    callers = [leased(state, *opened(state)) for _ in range(2)]
    state.match(NOW)
    assert state.gate is gate
    assert len(state.leases) == len(callers)


@pytest.mark.parametrize(("minconn", "missing"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_what_is_missing_is_what_minconn_lacks(state, minconn, missing):
    state.set_limits(minconn, 3)
    ticket = state.issue(NOW)
    assert (state.missing(), ticket.ref in state.tickets) == (missing, True)


# ---- how it is described ---------------------------------------------------------------------------------------


def test_the_description_counts_each_connection_once(state):
    state.set_limits(0, 9)
    conns = opened(state, 6)
    caller = leased(state, conns[5])
    for conn in conns[3:5]:
        state.idle.remove(conn)
        state.condemn(conn, "lost")
    ticket = state.issue(NOW)
    line = [Caller(), Caller()]
    for each in line:
        state.arrive(each)
    assert state.describe() == "'alone' 1 used, 3 idle, 1 connecting, 2 waiting, max 9"
    state.shut()
    assert state.describe() == "'alone' closed, 1 used, 3 idle, 1 connecting, 2 waiting, max 9"
    assert (caller.conn, ticket.started) == (conns[5], False)


def test_it_is_never_less_than_none_that_are_used(state):
    (conn,) = opened(state)
    state.condemn(conn, "lost")
    assert state.describe().startswith("'alone' 0 used, 1 idle"), "a hit beside it has not popped it yet"


def test_the_description_tells_of_the_limiter():
    limiter = Limiter(7)
    state, other = (PoolState(name, 0, 3, limiter=limiter) for name in ("one", "other"))
    for each in (state, other):
        limiter.join(each, None)
    opened(state), opened(other)
    assert state.describe().endswith("max 3, 2 of 7 under its limiter")


# ---- rights to connect -----------------------------------------------------------------------------------------


def test_under_a_limiter_the_right_is_given_by_both():
    limiter = Limiter(2)
    state, other = (PoolState("alone", 0, 2, limiter=limiter) for _ in range(2))
    for each in (state, other):
        limiter.join(each, None)
    kept = [state.try_issue(NOW)]
    other.wishes = [NOW]
    limiter.wished(other)
    assert state.try_issue(NOW, since=NOW + 1) is None, "another pool's caller came before"
    kept.append(state.try_issue(NOW, since=NOW))
    assert kept[1].ref in state.tickets
    other.wishes = []
    assert state.try_issue(NOW) is None, "there is no room"


def test_without_saying_since_when_one_is_behind_all_who_wish():
    limiter = Limiter(1)
    state, other = (PoolState("alone", 0, 2, limiter=limiter) for _ in range(2))
    for each in (state, other):
        limiter.join(each, None)
    other.wishes = [NOW + 10**9]
    limiter.wished(other)
    assert state.try_issue(NOW) is None


def test_a_right_is_for_its_owner_and_for_so_long(state):
    caller = Caller()
    state.arrive(caller)
    state.drain()
    ticket = state.try_issue(NOW, caller.place)
    assert (ticket.owner(), ticket.deadline, ticket.generation, ticket.started) == (caller, NOW + 10, 1, False)
    assert ticket.ref in state.tickets


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_connect_at_a_time_than_may(limit):
    state = PoolState("alone", 0, 9, max_connecting=limit)
    tickets = [state.try_issue(NOW) for _ in range(limit)]
    assert all(tickets)
    assert not state.may_connect(NOW)
    state.end(tickets[0])
    assert state.may_connect(NOW)
    tickets += [state.issue(NOW), state.issue(NOW)]
    assert not state.may_connect(NOW), "there are more than may be"


def test_who_does_not_say_so_is_patient(state):
    state.retry_at = NOW + 5
    assert state.try_issue(NOW) is None
    assert state.try_issue(NOW, patient=False) is not None


def test_a_closed_pool_may_not_connect(state):
    assert state.may_connect(NOW)
    state.shut()
    assert not state.may_connect(NOW)


def test_a_right_that_dies_before_it_is_known_frees_no_others(state, monkeypatch):
    """An interrupt strikes between two steps of issue()."""

    class Struck(Exception):
        pass

    class Tickets(dict):
        def __setitem__(self, ref, value):
            raise Struck

    kept, state.tickets = state.issue(NOW), Tickets()
    with pytest.raises(Struck):
        state.issue(NOW)
    gc.collect()
    assert len(state.lost) == 1
    state.tickets = {kept.ref: None}
    state.match(NOW)
    assert not state.lost
    assert kept.ref in state.tickets


def test_a_right_that_was_ended_leaves_nothing_to_be_reaped(state):
    ticket = state.issue(NOW)
    state.end(ticket)
    assert (ticket.ref, state.size()) == (None, 0)
    del ticket
    gc.collect()
    assert not state.lost


def test_a_right_that_was_taken_back_cannot_be_begun(state):
    ticket = state.issue(NOW)
    assert state.begin(ticket) is ticket.started is True
    other = state.issue(NOW)
    state.end(other)
    assert state.begin(other) is other.started is False


# ---- whether something may come of itself ----------------------------------------------------------------------


def test_nothing_comes_of_itself_where_all_are_idle_or_leased(state):
    assert not state.under_way()
    state.set_limits(0, 9)
    conns = opened(state, 6)
    callers = [leased(state, conns[number], key) for number, key in [(5, None), (4, "a"), (3, "b")]]
    assert (len(state.leases), len(state.keyed), len(state.idle)) == (1, 2, 3)
    assert not state.under_way()
    state.idle.remove(conns[0])
    assert state.under_way(), "one is in the pool's own hands"
    assert [caller.conn for caller in callers] == conns[:2:-1]


def test_nothing_comes_of_what_is_idle_but_not_known_any_more(state):
    opened(state)
    state.entries.clear()
    assert not state.under_way()


def test_a_connect_comes_to_an_end_by_itself(state):
    ticket = state.issue(NOW)
    assert state.under_way() is True
    state.end(ticket)
    assert state.under_way() is False


def test_a_close_comes_to_an_end_by_itself(state):
    (conn,) = opened(state)
    caller = leased(state, conn)
    state.condemn(caller.conn, "lost")
    assert state.under_way()


def test_one_that_is_looked_at_comes_back_by_itself(state):
    (conn,) = opened(state)
    assert state.borrow(state.entries[id(conn)]) is conn
    assert state.under_way()


def test_after_a_refusal_another_attempt_comes_by_itself(state):
    state.retry_at = NOW
    assert state.under_way()
    state.retry_at = RETIRED
    assert not state.under_way()
