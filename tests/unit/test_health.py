"""The pure state: doubt, age, borrowing, limits, refusals; and what a hit beside it may have taken first."""

from __future__ import annotations

from collections import deque

import pytest
from fakes import FakeConnection, OperationalError

from dbpool.entry import ALIVE, RETIRED, WRITABLE, record
from dbpool.semaphore import Waiter
from dbpool.state import PoolState

NOW = 1000.0


class Caller(Waiter):
    """A waiter that remembers that it was woken."""

    __slots__ = ("woken",)

    def __init__(self, since=NOW, key=None):
        super().__init__(key, 1, since)
        self.woken = 0

    def wake(self):
        self.woken += 1


class Racing(deque):
    """A deque beside which a hit takes the last one, just before the next pop."""

    def popleft(self):
        self.clear()
        return super().popleft()


@pytest.fixture
def state():
    return PoolState("p", 0, 5, look_in=10.0, idle_limit=100.0)


def opened(state, number=1, lifetime=1000.0):
    """Have *number* idle connections; return them with their entries."""
    found = []
    for _ in range(number):
        conn = FakeConnection(len(state.entries) + 1)
        entry = record(conn, NOW, None, state.lost.append, lifetime, state.look_in)
        assert state.adopt(state.issue(NOW), entry, conn)
        found.append((conn, entry))
    state.match(NOW)
    return found


def leased(state, conn):
    caller = Caller()
    state.arrive(caller)
    state.match(NOW)
    assert caller.conn is conn
    return caller


# ---- doubt -------------------------------------------------------------------------------------------------


def test_a_doubt_diverts_every_hit_and_keeps_the_graver_one(state):
    (_, first), (_, second) = opened(state, 2)
    state.doubt(WRITABLE)
    state.doubt(ALIVE)
    assert [entry.suspect for entry in (first, second)] == [WRITABLE, WRITABLE]
    assert [entry.look_at for entry in (first, second)] == [RETIRED, RETIRED]
    assert state.doubts == 2


def test_a_look_that_began_before_the_doubt_clears_nothing(state):
    ((_, entry),) = opened(state)
    before = state.doubts
    state.doubt()
    state.vouch(entry, NOW + 1, before)
    assert (entry.suspect, entry.look_at) == (ALIVE, RETIRED)
    state.vouch(entry, NOW + 1, state.doubts)
    assert (entry.suspect, entry.look_at, entry.seen) == (0, NOW + 11, NOW + 1)


def test_nobody_vouches_for_what_is_retired(state):
    ((_, entry),) = opened(state)
    state.retire(entry)
    state.vouch(entry, NOW + 1, state.doubts)
    assert entry.look_at == RETIRED


def test_a_look_is_due_when_the_lifetime_is_over_at_the_latest(state):
    ((_, entry),) = opened(state, lifetime=15.0)
    state.vouch(entry, NOW + 9, state.doubts)
    assert entry.look_at == entry.use_by == NOW + 15


def test_age_takes_from_every_time_but_retired_stays_retired(state):
    (_, entry), (_, gone) = opened(state, 2)
    state.retire(gone)
    state.age(300.0)
    assert (entry.since, entry.seen, entry.use_by) == (NOW - 300, NOW - 300, NOW + 700)
    assert gone.use_by == RETIRED
    assert entry.suspect == ALIVE


def test_what_is_older_than_the_clock_is_not_taken_for_retired(state):
    ((_, entry),) = opened(state)
    state.age(10**6)
    assert entry.use_by == 0.0 != RETIRED


def test_what_the_other_side_has_closed_is_retired_and_what_is_forgotten_is_not(state):
    (_, lost), (_, forgotten), (_, other) = opened(state, 3)
    state._forget(forgotten)
    state.lose([lost, forgotten])
    assert (lost.fate, lost.use_by) == ("lost", RETIRED)
    assert (forgotten.use_by > 0, other.suspect, state.doubts) == (True, ALIVE, 1)


def test_a_connection_that_is_cut_off_counts_once(state):
    ((_, entry),) = opened(state)
    for each in (None, entry, entry):
        state.abort(each)
    assert state.aborted == 1


# ---- given, and of no use ----------------------------------------------------------------------------------


def test_who_was_given_a_dead_one_is_first_in_line_again(state):
    ((conn, entry),) = opened(state)
    first = leased(state, conn)
    second = Caller()
    state.arrive(second)
    assert state.reject(first, "lost") is conn
    assert first.conn is None
    assert state.waiters.head() is first
    assert state.gate
    assert state.closing == {id(conn): entry}


def test_what_somebody_else_closes_is_not_closed_twice(state):
    ((conn, _),) = opened(state)
    caller = leased(state, conn)
    assert state.seize() == [conn]
    assert state.reject(caller, "lost") is None


def test_what_was_put_by_who_shares_the_key_is_not_closed_by_who_still_looks_at_it(state):
    """It may be idle by now, or another's."""
    ((conn, _),) = opened(state)
    looking = Caller(key="a")
    state.arrive(looking)
    state.match(NOW)
    assert state.arrive(Caller(key="a")) is looking.conn is conn
    assert state.claim_keyed(conn, "a") is not None
    state.idle.append(conn)
    assert state.reject(looking, "lost") is None
    assert not state.closing
    assert (looking.conn, state.waiters.head()) == (None, looking)


# ---- borrowing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_borrowing_one_leaves_the_order_of_the_others(state, number):
    conns = opened(state, 3)
    conn, entry = conns.pop(number)
    assert state.borrow(entry) is conn
    assert list(state.idle) == [conn for conn, _ in conns]


def test_one_that_is_not_idle_cannot_be_borrowed(state):
    (first, _), (conn, entry) = opened(state, 2)
    leased(state, conn)
    assert state.borrow(entry) is None
    assert list(state.idle) == [first]


def test_one_that_a_hit_took_first_cannot_be_borrowed(state):
    ((_, entry),) = opened(state)
    state.idle = Racing(state.idle)
    assert state.borrow(entry) is None


# ---- limits, while hits go on ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["expire", "_shrink", "_trim"])
def test_what_a_hit_took_first_is_not_closed(state, what):
    ((_, entry),) = opened(state)
    entry.since, doomed = NOW - 10**6, []
    if what == "_shrink":
        state.closed = True
    state.idle = Racing(state.idle)
    if what == "expire":
        state.expire(NOW, doomed)
    else:
        getattr(state, what)(NOW, doomed)
    assert doomed == []


def test_one_that_is_not_known_any_more_is_dropped_from_idle(state):
    ((conn, _),) = opened(state)
    state.entries.clear()
    state.expire(NOW, [])
    assert not state.idle
    state.idle.append(conn)
    assert state._over_at_the_left(NOW) is None


def test_an_idle_queue_that_is_emptied_while_it_is_looked_at_is_no_error(state):
    state.idle = deque()
    assert state._over_at_the_left(NOW) is None


# ---- refusals ----------------------------------------------------------------------------------------------


def refuse(state, refusal, retry_at=NOW + 5, waiters=()):
    """Fail a connect for the first of *waiters*, which are in line; say whether its error was delivered."""
    ticket = waiters[0].ticket if waiters else state.issue(NOW)
    return state.fail(ticket, OperationalError("refused"), OperationalError("kept"), refusal, retry_at)


def in_line(state, number, patient=True):
    callers = [Caller() for _ in range(number)]
    for caller in callers:
        caller.limit = None if patient else 0
        state.arrive(caller)
    state.match(NOW)
    return callers


def test_after_a_transient_refusal_patient_ones_wait_and_nobody_asks_before_its_time(state):
    first, second = callers = in_line(state, 2)
    assert not refuse(state, "transient", waiters=callers)
    assert (first.error, second.error) == (None, None)
    assert state.is_refused()
    assert not state.may_connect(NOW + 6), "another is under way"
    state.end(second.ticket)
    assert not state.may_connect(NOW + 4)
    assert state.may_connect(NOW + 4, patient=False)
    assert state.may_connect(NOW + 5)


def test_an_impatient_one_is_told_of_a_transient_refusal(state):
    (caller,) = in_line(state, 1, patient=False)
    assert refuse(state, "transient", waiters=[caller])
    assert isinstance(caller.error, OperationalError)
    assert caller.woken


def test_a_permanent_refusal_is_told_to_all_when_none_is_open(state):
    callers = in_line(state, 3)
    assert refuse(state, "permanent", waiters=callers)
    assert len({id(caller.error) for caller in callers}) == 3
    assert not state.waiters
    assert not state.is_refused()


@pytest.mark.parametrize("closing", [False, True])
def test_one_that_is_open_gives_hope_but_not_one_that_is_being_closed(state, closing):
    ((conn, entry),) = opened(state)
    state.idle.clear()
    state.leases[id(conn)] = entry
    callers = in_line(state, 2)
    if closing:
        state.condemn(conn, "lost")
    assert refuse(state, "permanent", waiters=callers) is closing
    assert state.is_refused() is not closing


def test_a_connect_that_succeeds_ends_the_refusal(state):
    refuse(state, "transient")
    assert str(state.last_error) == "kept"
    opened(state)
    assert not state.is_refused()
    assert state.last_error is None


def test_a_refusal_that_comes_after_its_ticket_has_ended_changes_nothing(state):
    ticket = state.issue(NOW)
    state.end(ticket)
    assert not state.fail(ticket, OperationalError(), None, "transient", NOW + 5)
    assert not state.is_refused()
    assert state.connect_errors == 0


def test_who_left_the_line_is_not_told(state):
    (caller,) = in_line(state, 1)
    ticket = caller.ticket
    ticket.started = True
    state.depart(caller)
    assert not state.fail(ticket, OperationalError())
    assert caller.error is None
