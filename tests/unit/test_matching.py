"""The state machine alone: who is given what, who is counted, who is told to connect, and what the gate then says."""

from __future__ import annotations

import pytest

from dbpool.entry import Status, ThreadKey, ThreadRef
from dbpool.errors import PoolClosed, TooManyWaiters
from dbpool.state import PoolState
from dbpool.stats import where

from .pure import NOW, Caller, Conn, leased, opened, put, queued


@pytest.fixture
def state():
    return PoolState("alone", 0, 3, look_in=10.0)


# ---- arriving and leaving ------------------------------------------------------------------------------------


def test_who_is_refused_is_counted_and_not_in_line():
    state = PoolState("alone", 0, 1, max_waiting=0)
    leased(state, *opened(state))
    for number in (1, 2):
        with pytest.raises(TooManyWaiters, match="max_waiting=0 callers wait already"):
            state.arrive(Caller())
        assert (state.refused, len(state.waiters)) == (number, 0)


def test_those_for_whom_a_connect_is_under_way_do_not_wait():
    state = PoolState("alone", 0, 1, max_waiting=4)
    callers = [Caller() for _ in range(6)]
    queued(state, callers[0])
    for caller in callers[1:5]:
        assert state.arrive(caller) is None
    with pytest.raises(TooManyWaiters):
        state.arrive(callers[5])
    assert (len(state.waiters), len(state.tickets)) == (5, 1)


def test_who_arrives_diverts_hits_at_once_and_until_nobody_waits(state):
    callers = [leased(state, *opened(state)) for _ in range(3)]
    state.match(NOW)
    assert not state.gate
    caller = Caller()
    state.arrive(caller)
    assert state.gate
    state.match(NOW)
    assert state.gate
    state.depart(caller)
    state.match(NOW)
    assert not state.gate
    assert len(state.leases) == len(callers)


def test_who_departs_gives_back_a_right_that_was_not_begun_and_not_one_that_was(state):
    idler, other = Caller(), Caller()
    queued(state, idler, other)
    idle, begun = idler.ticket, other.ticket
    state.begin(begun)
    for caller in (idler, other):
        state.depart(caller)
    assert (len(state.waiters), list(state.tickets)) == (0, [begun.ref])
    assert (idler.ticket, idle.ref, other.ticket) == (None, None, begun)


def test_who_is_served_otherwise_gives_back_a_right_that_was_not_begun(state):
    (conn,) = opened(state)
    holder, caller = leased(state, conn), Caller()
    queued(state, caller)
    ticket = caller.ticket
    put(state, holder.conn)
    state.match(NOW)
    assert caller.conn is conn
    assert (caller.ticket, ticket.ref, len(state.tickets)) == (None, None, 0)


def test_one_more_is_refused_though_more_wait_than_may():
    """As after a resize: two were let in, of whom only one would be now."""
    state = PoolState("alone", 0, 2, max_waiting=0)
    callers = [Caller(), Caller()]
    for caller in callers:
        state.arrive(caller)
    state.set_limits(0, 0)
    with pytest.raises(TooManyWaiters):
        state.arrive(Caller())


def test_too_many_that_are_open_do_not_count_as_callers_who_wait():
    state = PoolState("alone", 0, 2, max_waiting=1)
    kept = [leased(state, *opened(state)).conn for _ in range(2)]
    state.set_limits(0, 0)
    assert state.arrive(Caller()) is None
    assert len(kept) == 2


def test_what_a_leaving_waiter_gives_back_is_idle_and_has_no_key(state):
    (conn,) = opened(state)
    caller = leased(state, conn, "a")
    entry = state.entries[id(conn)]
    assert where(state, entry) is Status.LEASED
    state.hand_back(caller)
    assert where(state, entry) is Status.IDLE


def test_who_arrives_at_a_closed_pool_is_refused_and_not_in_line(state):
    state.shut()
    with pytest.raises(PoolClosed):
        state.arrive(Caller())
    assert not state.waiters


# ---- what the shell is told ----------------------------------------------------------------------------------


def test_what_changes_meanwhile_is_noted_with_the_present_match(state):
    todo = state.match(NOW)
    state.again.append(True)
    assert todo.again == [True]
    assert state.match(NOW).again == []


def test_a_closed_pool_lets_no_hit_through_though_it_is_empty(state):
    state.match(NOW)
    assert not state.gate
    state.shut()
    state.match(NOW)
    assert state.gate


@pytest.mark.parametrize(("limit", "gate"), [(2, True), (3, False), (4, False)])
def test_no_hit_passes_while_more_are_open_than_may_be(limit, gate):
    state = PoolState("alone", 0, 4)
    callers = [leased(state, *opened(state)) for _ in range(3)]
    state.set_limits(0, limit)
    state.match(NOW)
    assert state.gate is gate
    assert len(state.leases) == len(callers)


def test_no_hit_passes_while_a_drained_one_is_leased(state):
    caller = leased(state, *opened(state))
    state.drain()
    state.match(NOW)
    assert state.gate
    assert id(caller.conn) in state.drained


def test_who_waits_for_the_end_is_woken_when_the_pool_is_closed_and_empty(state):
    (conn,) = opened(state)
    closer = Caller()
    state.closers.join(closer)
    state.match(NOW)
    assert not closer.woken, "it is neither"
    entry, caller = state.entries[id(conn)], leased(state, conn)
    state.shut()
    state.match(NOW)
    assert not closer.woken, "one is leased"
    state.condemn(caller.conn, "closed")
    state.lost.append(entry)
    state.match(NOW)
    assert closer.woken == 1


def test_who_waits_for_the_end_is_not_woken_when_an_open_pool_is_empty(state):
    closer = Caller()
    state.closers.join(closer)
    state.match(NOW)
    assert not closer.woken


def test_those_in_line_at_a_pool_that_is_closed_are_told(state):
    callers = [Caller(), Caller()]
    for caller in callers:
        state.arrive(caller)
    state.shut()
    state.match(NOW)
    assert all(isinstance(caller.error, PoolClosed) for caller in callers)
    assert [caller.woken for caller in callers] == [1, 1]
    assert not state.waiters


# ---- what is given -------------------------------------------------------------------------------------------


def test_only_those_who_slept_count_as_having_waited(state):
    opened(state, 3)
    awake, first, second = Caller(since=NOW), Caller(since=300.0), Caller(since=NOW + 1)
    first.slept = second.slept = True
    queued(state, awake, now=NOW + 2)
    assert (state.tally.waits.count, state.tally.waits.sum) == (0, 0.0)
    queued(state, first, now=NOW + 3)
    queued(state, second, now=NOW + 3)
    assert (state.tally.waits.count, state.tally.waits.sum) == (2, 705.0)


@pytest.mark.parametrize(("after", "due"), [(0, False), (9, False), (10, True), (11, True)])
def test_a_look_is_due_from_its_time_on(state, after, due):
    (conn,) = opened(state)
    assert (leased(state, conn, now=NOW + after).unused is not None) is due


def test_how_long_it_was_unheard_of_counts_from_its_last_lease_or_the_last_look(state):
    (conn,) = opened(state)
    state.doubt()  # so each is looked at: else nobody asks
    caller = leased(state, conn, now=NOW + 3)
    assert caller.unused == 3.0
    put(state, conn)
    assert leased(state, conn, now=NOW + 7).unused == 4.0
    put(state, conn)
    state.vouch(state.entries[id(conn)], NOW + 8, state.doubts)
    assert leased(state, conn, now=NOW + 20).unused == 12.0


@pytest.mark.parametrize("key", [None, "a"])
def test_a_lease_says_whose_it_is_and_since_when(state, key):
    (conn,) = opened(state)
    caller = Caller(key, ident=7)
    queued(state, caller, now=NOW + 5)
    entry = state.entries[id(conn)]
    assert (entry.holder, entry.since, entry.uses, entry.key) == (7, NOW + 5, 1, key)
    assert caller.lease == 1


def test_a_lease_under_a_key_begins_with_no_block_and_nobody_who_shares_it(state):
    (conn,) = opened(state)
    entry = state.entries[id(conn)]
    entry.depth, entry.by_block, entry.doomed, entry.shared, entry.kept = 2, True, True, 3, 2
    leased(state, conn, "a")
    assert (entry.depth, entry.by_block, entry.doomed, entry.shared, entry.kept) == (0, False, False, 1, 0)


def test_who_finds_that_its_key_has_a_connection_by_now_shares_it_as_it_is(state):
    (conn,) = opened(state)
    first, second = Caller("a"), Caller("a")
    second.terms = 7, 5.0  # those of another one, which it was given before and which was no good
    queued(state, first, second, now=NOW + 20)
    entry = state.entries[id(conn)]
    assert (first.conn, second.conn) == (conn, conn)
    assert (first.unused is None, second.unused is None) == (False, True)
    assert (entry.uses, second.lease, entry.shared) == (1, 1, 2)


def test_what_is_idle_but_not_known_any_more_does_not_hide_what_is(state):
    first, second = opened(state, 2)
    del state.entries[id(second)]  # closeall() came between
    caller = Caller()
    queued(state, caller)
    assert caller.conn is first


def test_what_is_over_its_limit_or_unfit_is_closed_for_that_reason(state):
    (old,), (broken,) = opened(state, lifetime=5.0), opened(state)
    state.unfit = lambda conn: conn is broken
    assert queued(state, Caller(), now=NOW + 6).close == [broken, old]
    assert [entry.fate for entry in state.closing.values()] == ["unfit", "lifetime"]


# ---- a thread's own ------------------------------------------------------------------------------------------


@pytest.fixture
def homes():
    """A state that gives a key its own again, the keys of four living threads, and their connections, all idle."""
    state = PoolState("alone", 0, 4, at_home=True)
    tokens = [ThreadKey() for _ in range(4)]
    keys = [ThreadRef(token, state.lost.append) for token in tokens]
    conns = opened(state, 4)
    state.idle.clear()
    for conn, key in zip(conns, keys):
        state.idle.append(conn)
        leased(state, conn, key)
        put(state, conn, key)
        state.idle.clear()
    state.idle.extend(conns)
    return state, keys, conns, tokens


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_key_gets_its_own_wherever_it_lies_and_the_others_keep_their_order(homes, number):
    state, keys, conns, _ = homes
    caller = Caller(keys[number])
    queued(state, caller)
    own = conns.pop(number)
    assert caller.conn is own
    assert list(state.idle) == conns


def test_a_key_without_one_of_its_own_gets_the_newest_and_the_others_keep_their_order(homes):
    state, _, conns, _ = homes
    token = ThreadKey()
    caller = Caller(ThreadRef(token))
    queued(state, caller)
    assert caller.conn is conns.pop()
    assert list(state.idle) == conns


def test_what_is_not_known_any_more_is_nobodys_own(homes):
    state, keys, conns, _ = homes
    del state.entries[id(conns[-1])]
    caller = Caller(keys[0])
    queued(state, caller)
    assert caller.conn is conns[0]


def test_where_no_key_has_its_own_the_order_alone_decides(state):
    first, second = opened(state, 2)
    state.idle.remove(second)
    leased(state, first, "a")
    put(state, first, "a")
    assert state.entries[id(first)].home is None
    state.idle.append(second)
    caller = Caller("a")
    queued(state, caller)
    assert caller.conn is second


# ---- who is told to connect ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3])
def test_for_whom_a_threads_connection_is_coming_none_is_opened(state, number):
    state.set_limits(0, 9)
    (conn,) = opened(state)
    token = ThreadKey()
    leased(state, conn, ThreadRef(token, state.lost.append))
    hash(state.entries[id(conn)].key)
    del token
    callers = [Caller() for _ in range(number)]
    todo = queued(state, *callers)
    assert len(todo.clean) == 1
    assert [caller.ticket is not None for caller in callers] == [True] * (number - 1) + [False]
    assert [caller.woken for caller in callers] == [1] * (number - 1) + [0]


def test_connects_that_are_nobodys_serve_those_in_line(state):
    state.set_limits(0, 9)
    tickets = [state.issue(NOW), state.issue(NOW)]
    callers = [Caller() for _ in range(4)]
    for caller in callers[:2]:
        queued(state, caller)
        assert len(state.tickets) == len(tickets) == 2
    queued(state, *callers[2:])
    assert [caller.ticket is not None for caller in callers] == [True, True, False, False]


def test_where_a_hit_was_quicker_who_is_in_line_waits_on(state):
    """It takes the connection without a lock, while match() looks."""
    opened(state)

    def hit():
        state.idle.clear()
        raise IndexError

    state.take = hit
    state.set_limits(0, 1)
    caller = Caller()
    queued(state, caller)
    assert caller.conn is None
    assert state.waiters.head() is caller


def test_while_the_server_refuses_only_who_is_not_patient_is_told_to_connect(state):
    patient, hasty = Caller(), Caller()
    hasty.limit = 0
    state.retry_at = NOW + 5
    queued(state, patient, hasty)
    assert (patient.ticket, hasty.woken) == (None, 1)
    assert hasty.ticket.ref in state.tickets


def test_who_is_in_a_hurry_is_told_whether_there_was_room():
    state = PoolState("alone", 0, 1)
    first, second = Caller(), Caller()
    for caller in (first, second):
        state.arrive(caller)
    assert state.hurry(first, NOW) is True
    assert state.hurry(first, NOW) is False, "it has a ticket already"
    assert state.hurry(second, NOW) is False, "there is no room"
    assert second.ticket is None


@pytest.mark.parametrize("given", [{"conn": Conn()}, {"error": ValueError()}])
def test_who_was_served_is_not_told_to_connect(state, given):
    caller = Caller()
    for name, value in given.items():
        setattr(caller, name, value)
    assert state.hurry(caller, NOW) is False
    assert not state.tickets


def test_a_caller_whose_connect_has_ended_is_told_to_begin_another(state):
    caller = Caller()
    queued(state, caller)
    first = caller.ticket
    state.end(first)
    state.match(NOW)
    assert caller.ticket is not first
    assert caller.ticket.ref in state.tickets
