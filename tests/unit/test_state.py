"""The state machine alone, where a hit, an interrupt or a death comes between two of its steps."""

from __future__ import annotations

from collections import deque

import pytest

from dbpool.entry import Status, ThreadKey, ThreadRef, record
from dbpool.errors import PoolTimeout
from dbpool.semaphore import Waiter
from dbpool.state import PoolState


class Conn:
    """Anything that can be weakly referenced."""


class Caller(Waiter):
    """Counts how often it is woken."""

    woken = 0

    def wake(self):
        self.woken += 1


class Robbed(deque):
    """An idle deque from which a hit takes the last connection just before the locked code does."""

    def pop(self):
        raise IndexError

    popleft = pop


@pytest.fixture
def state():
    return PoolState("alone", 0, 2, connect_limit=10)


def opened(state, now=0.0):
    """Open one connection, which goes idle."""
    ticket, conn = state.issue(now), Conn()
    assert state.begin(ticket)
    assert state.adopt(ticket, record(conn, now, None, state.lost.append), conn)
    state.match(now)
    return conn


def served(state, key=None):
    """Open one connection and give it to a caller, who has not woken yet."""
    caller = Caller(key, 1, 0.0)
    assert state.arrive(caller) is None
    opened(state)
    return caller


def leased(state):
    """Open one connection and lease it to a caller."""
    return served(state).conn


def put(state, conn, key=None):
    """What putconn does when nobody waits."""
    entry = state.leases.pop(id(conn)) if key is None else state.claim_keyed(conn, key)
    assert entry is not None
    state.idle.append(conn)


def test_what_closeall_seized_is_not_taken_back_from_a_leaving_waiter(state):
    caller = served(state)
    assert state.seize() == [caller.conn]
    state.hand_back(caller)
    assert not state.idle


def test_what_is_not_known_is_not_taken_back(state):
    caller = Caller(None, 1, 0.0)
    caller.conn = Conn()
    state.hand_back(caller)
    assert not state.idle


@pytest.mark.parametrize("again", [None, "b", "a"])
def test_a_leaving_waiter_ends_no_lease_but_its_own(state, again):
    gone = served(state, key="a")
    assert state.arrive(Caller("a", 2, 0.0)) is gone.conn  # another caller shares it, puts it ...
    put(state, gone.conn, "a")
    after = Caller(again, 3, 0.0)
    state.arrive(after)
    state.match(0.0)  # ... and it is leased again before the first one wakes
    assert after.conn is gone.conn
    state.hand_back(gone)
    assert not state.idle
    assert len(state.leases) + len(state.keyed) == 1


def test_a_leaving_waiter_does_not_make_idle_what_is_idle(state):
    gone = served(state, key="a")
    state.arrive(Caller("a", 2, 0.0))
    put(state, gone.conn, "a")
    state.hand_back(gone)
    assert list(state.idle) == [gone.conn]


def test_an_interrupted_put_restores_the_lease(state):
    conn = leased(state)
    entry = state.leases.pop(id(conn))
    state.restore(conn, entry)
    assert state.leases == {id(conn): entry}


def test_an_interrupted_put_restores_nothing_once_the_connection_is_idle(state):
    conn = leased(state)
    entry = state.leases.pop(id(conn))
    state.idle.append(conn)
    state.restore(conn, entry)
    assert not state.leases


def test_an_interrupted_put_looks_at_every_idle_connection(state):
    first, second = opened(state), opened(state)
    assert list(state.idle) == [first, second]
    state.idle.pop()
    state.restore(second, state.entries[id(second)])
    assert list(state.leases) == [id(second)]


def test_an_interrupted_put_restores_nothing_once_the_connection_is_being_closed(state):
    conn = leased(state)
    entry = state.leases.pop(id(conn))
    assert state.condemn(conn, "closed")
    state.restore(conn, entry)
    assert not state.leases


def test_an_entry_that_was_forgotten_is_not_listed_as_drained(state):
    conn = opened(state)
    state.entries[id(conn)].cid = None  # its close has just been noted by another step
    state.drain()
    assert not state.drained


def test_a_ticket_that_died_gives_its_slot_back_even_before_it_is_reaped(state):
    state.issue(0.0)  # dropped at once, as an interrupted caller does
    state.lost.clear()
    state.match(0.0)
    assert state.size() == 0


def test_a_ticket_that_is_in_time_is_left_alone(state):
    ticket = state.issue(0.0)
    state.match(9.9)
    assert ticket.ref in state.tickets


def test_a_connect_that_takes_too_long_fails_its_waiter_and_frees_the_slot(state):
    caller = Caller(None, 1, 0.0)
    state.arrive(caller)
    state.match(0.0)
    assert state.begin(caller.ticket)
    state.match(10.0)
    assert isinstance(caller.error, PoolTimeout)
    assert (state.size(), state.aborted, len(state.waiters)) == (0, 1, 0)


def test_a_hit_that_is_quicker_leaves_nothing_to_drain(state):
    opened(state)
    state.drain()
    state.idle = Robbed(state.idle)
    assert state.match(0.0).close == []


def test_a_hit_that_is_quicker_leaves_nothing_to_close(state):
    opened(state)
    state.shut()
    idle, state.idle = state.idle, Robbed(state.idle)
    doomed = []
    state._doom("surplus", doomed)
    assert doomed == []
    state.idle = idle
    assert len(state.match(0.0).close) == 1


def test_a_connection_that_is_idle_but_no_longer_registered_is_passed_over(state):
    conn = opened(state)
    del state.entries[id(conn)]  # closeall() came between
    caller = Caller(None, 1, 0.0)
    state.arrive(caller)
    state.match(0.0)
    assert caller.conn is None
    assert caller.ticket is not None


def test_an_entry_whose_id_is_another_connections_by_now_takes_nothing_from_it(state):
    conn = leased(state)
    stranger = record(Conn(), 0.0, None, state.lost.append)
    stranger.cid = id(conn)
    state.lost.append(stranger)
    state.match(0.0)
    assert state.leases
    assert state.entries[id(conn)]() is conn


def test_a_waiter_is_woken_at_least_once_and_then_gone_from_the_queue(state):
    caller = Caller(None, 1, 0.0)
    state.arrive(caller)
    opened(state)
    assert caller.woken >= 1
    assert len(state.waiters) == 0


def test_a_hit_beside_the_overflow_check_leaves_the_rest(state):
    state = PoolState("alone", 0, 1, max_overflow=1)
    first, second = opened(state), opened(state)
    assert len({id(first), id(second)} & {id(conn) for conn in state.idle}) == 1


def test_a_waiter_that_died_in_the_queue_is_passed_over_even_before_it_is_reaped(state):
    state.arrive(Caller(None, 1, 0.0))  # dropped at once, as an interrupted caller does
    state.lost.clear()
    assert state.waiters.head() is None
    assert len(state.waiters) == 0


def test_every_status_leads_to_closed_and_closed_leads_nowhere():
    assert [status for status in Status if Status.CLOSED not in status.successors] == [Status.CLOSED]
    assert Status.CLOSED.successors == ()


def test_the_failure_of_a_connect_that_was_given_up_changes_nothing(state):
    ticket = state.issue(0.0)
    state.end(ticket)
    assert not state.fail(ticket, ValueError("late"))
    assert (state.connect_errors, state.last_error) == (0, None)


def test_closeall_leaves_out_what_has_died(state):
    caller = served(state)
    entry = state.entries[id(caller.conn)]
    caller.conn = None
    assert entry() is None
    assert state.seize() == []
    assert list(state.lost) == [entry]


def test_a_leaving_waiter_gives_back_what_its_key_alone_has(state):
    gone = served(state, key="a")
    state.hand_back(gone)
    assert list(state.idle) == [gone.conn]
    assert not state.keyed


def test_a_leaving_waiter_leaves_the_lease_to_those_who_share_its_key(state):
    gone = served(state, key="a")
    state.arrive(Caller("a", 2, 0.0))
    state.hand_back(gone)
    assert not state.idle
    assert state.keyed == {"a": gone.conn}


def test_when_all_who_share_a_key_leave_the_lease_ends(state):
    first, second = Caller("a", 1, 0.0), Caller("a", 2, 0.0)
    for caller in (first, second):
        state.arrive(caller)
    opened(state)
    assert first.conn is second.conn is not None
    state.hand_back(first)
    assert not state.idle
    state.hand_back(second)
    assert list(state.idle) == [first.conn]
    assert not state.keyed


def test_a_leaving_waiter_leaves_a_block_what_it_is_about_to_put(state):
    """The block has ended the lease under the key; the waiter shared it, and is cancelled only now."""
    gone = served(state, key="a")
    entry = state.claim_keyed(gone.conn, "a")
    state.leases[id(gone.conn)] = entry
    state.hand_back(gone)
    assert not state.idle
    assert state.leases == {id(gone.conn): entry}


def test_a_leaving_waiter_gives_nothing_back_that_was_put_already(state):
    gone = served(state)
    state.leases.clear()
    state.hand_back(gone)
    assert not state.idle


def test_a_leaving_waiter_does_not_end_the_lease_of_who_is_about_to_put_what_it_shared(state):
    gone = served(state, key="a")
    entry = state.claim_keyed(gone.conn, "a")
    state.leases[id(gone.conn)] = entry  # as a block does that commits
    state.hand_back(gone)
    assert (list(state.idle), len(state.leases)) == ([], 1)


def test_a_connection_whose_ticket_was_taken_back_is_not_taken_in(state):
    ticket, conn = state.issue(0.0), Conn()
    state.end(ticket)
    entry = record(conn, 0.0, None, state.lost.append)
    assert not state.adopt(ticket, entry, conn)
    assert (entry.cid, state.size(), list(state.idle)) == (None, 0, [])


def test_a_connection_that_was_begun_before_a_drain_is_retired_at_once(state):
    ticket, conn = state.issue(0.0), Conn()
    state.begin(ticket)
    state.drain()
    assert state.adopt(ticket, record(conn, 0.0, None, state.lost.append), conn)
    assert state.match(0.0).close == [conn]


def test_the_failure_of_a_connect_is_not_delivered_to_who_has_left(state):
    caller = Caller(None, 1, 0.0)
    state.arrive(caller)
    state.match(0.0)
    ticket = caller.ticket
    assert state.begin(ticket)
    state.depart(caller)
    assert not state.fail(ticket, ValueError("refused"))
    assert caller.error is None


def test_the_connection_of_a_thread_that_ended_is_given_to_be_cleaned(state):
    token = ThreadKey()
    thread = ThreadRef(token, state.lost.append)
    hash(thread)
    caller = served(state, key=thread)
    del token
    todo = state.match(0.0)
    assert [conn for _, conn in todo.clean] == [caller.conn]


def test_what_had_died_with_a_thread_before_is_nobodys(state):
    token = ThreadKey()
    thread = ThreadRef(token, state.lost.append)
    hash(thread)
    del token
    assert not state.match(0.0).clean
    assert not state.lost


def test_a_leaving_waiter_gives_back_what_it_has_without_a_key(state):
    gone = served(state)
    state.hand_back(gone)
    assert list(state.idle) == [gone.conn]
    assert not state.leases


def test_a_ticket_that_was_dropped_frees_its_slot(state):
    ticket = state.issue(0.0)
    assert state.size() == 1
    del ticket
    state.match(0.0)
    assert state.size() == 0
