"""The registry alone: what is taken back, closed, reaped, and forgotten in a child process."""

from __future__ import annotations

import gc

import pytest

from dbpool.entry import FOR_EVER, RETIRED, ThreadKey, ThreadRef, record
from dbpool.state import PoolState

from .pure import NOW, Alike, Caller, Conn, leased, opened, put, queued


@pytest.fixture
def state():
    return PoolState("alone", 0, 4)


def entry_of(state, conn):
    return state.entries[id(conn)]


def closed(state, conn, reason="lost"):
    """Have a connection closed from beginning to end."""
    entry = entry_of(state, conn)
    assert state.condemn(conn, reason)
    state.lost.append(entry)
    state.match(NOW)
    return entry


# ---- taking back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a"])
def test_a_keyed_lease_is_ended_by_its_key_or_by_none(state, key):
    (conn,) = opened(state)
    leased(state, conn, "a")
    entry = entry_of(state, conn)
    assert state.claim_keyed(conn, key) is entry
    assert (state.keyed, entry.key) == ({}, None)
    assert state.claim_keyed(conn, key) is None, "it has ended"


def test_no_lease_is_ended_by_another_key_or_for_another_connection(state):
    conn, plain = opened(state, 2)
    caller = leased(state, plain)
    leased(state, conn, "a")
    assert state.claim_keyed(conn, "b") is None
    assert state.claim_keyed(caller.conn, None) is None, "it has no key"
    assert state.claim_keyed(Conn(), None) is None, "it is not known"
    assert state.keyed == {"a": conn}
    assert entry_of(state, conn).key == "a"


def test_a_key_that_is_equal_is_the_key(state):
    (conn,) = opened(state)
    leased(state, conn, ("a", len("key")))
    assert state.claim_keyed(conn, ("a", len("yek")))


def test_a_stranger_with_the_id_of_one_that_is_leased_ends_nothing(state):
    """The id of one that died is given away again."""
    (conn,) = opened(state)
    leased(state, conn, "a")
    stranger = Conn()
    state.entries[id(stranger)] = entry_of(state, conn)
    assert state.claim_keyed(stranger, None) is None


def test_a_key_that_has_another_connection_by_now_keeps_it(state):
    conn, other = opened(state, 2, kind=Alike)
    leased(state, other, "a")
    state.keyed["a"] = conn
    assert state.claim_keyed(other, None) is None
    assert state.keyed == {"a": conn}


def test_a_lease_is_not_restored_to_a_connection_that_is_not_the_entrys(state):
    conn, other = opened(state, 2, kind=Alike)
    state.idle.clear()
    entry = state.entries[id(conn)] = entry_of(state, other)
    state.restore(conn, entry)
    state.restore(other, record(other, NOW, None, state.lost.append))
    assert not state.leases


def test_a_lease_is_restored_though_one_that_is_equal_is_idle(state):
    conn, other = opened(state, 2, kind=Alike)
    state.idle.remove(conn)
    state.restore(conn, entry_of(state, conn))
    assert state.leases == {id(conn): entry_of(state, conn)}
    assert list(state.idle) == [other]


def test_what_is_pooled_in_the_place_of_another_is_idle_and_the_other_forgotten(state):
    (old,) = opened(state)
    caller = leased(state, old)
    entry, conn = state.leases.pop(id(caller.conn)), Conn()
    new = record(conn, NOW, None, state.lost.append)
    state.replace(entry, new, conn)
    assert (list(state.idle), entry_of(state, conn), state.opened) == ([conn], new, 2)
    state.match(NOW)
    assert list(state.entries.values()) == [new]
    assert entry.cid is None


# ---- closing ---------------------------------------------------------------------------------------------------


def test_one_that_is_being_closed_has_its_slot_and_a_reason_and_no_lease(state):
    (conn,) = opened(state)
    caller = leased(state, conn)
    entry = entry_of(state, conn)
    assert state.condemn(caller.conn, "lost") is True
    assert (state.leases, state.closing, state.size(), entry.fate) == ({}, {id(conn): entry}, 1, "lost")
    assert state.condemn(conn, "surplus") is False, "somebody closes it already"
    assert entry.fate == "lost"


def test_one_that_is_being_closed_is_no_keys_any_more(state):
    (conn,) = opened(state)
    leased(state, conn, "a")
    state.condemn(conn, "lost")
    assert state.keyed == {}


def test_what_is_not_known_is_not_closed(state):
    assert state.condemn(Conn(), "lost") is False
    assert not state.closing


def test_of_one_that_is_retired_the_first_reason_stays(state):
    (conn,) = opened(state)
    entry = entry_of(state, conn)
    state.match(NOW)
    state.retire(entry, "lost")
    assert state.gate
    assert (entry.fate, entry.use_by, entry.look_at) == ("lost", RETIRED, RETIRED)
    assert state.drained == {id(conn): entry}
    state.condemn(conn, "lifetime")
    assert entry.fate == "lost"


def test_retired_without_a_reason_is_drained(state):
    (conn,) = opened(state)
    state.retire(entry_of(state, conn))
    assert closed(state, conn).fate == "drained"
    assert state.discards == {"drained": 1}


def test_a_pool_that_is_shut_diverts_hits_at_once(state):
    state.match(NOW)
    state.shut()
    assert (state.closed, state.gate) == (True, True)


def test_all_are_seized_those_in_use_too_but_not_what_is_being_closed(state):
    idle, first, second, closing = conns = opened(state, 4)
    state.condemn(closing, "lost")
    state.idle.clear()
    for conn, key in ((first, None), (second, "a"), (idle, None)):
        state.idle.append(conn)
        if conn is not idle:
            leased(state, conn, key)
    assert state.seize() == [idle, first, second]
    assert (state.leases, state.keyed) == ({}, {})
    assert [entry.fate for entry in state.closing.values()] == ["lost", "closed", "closed", "closed"]
    assert len(state.closing) == len(conns)


def test_what_died_in_use_does_not_keep_the_others_from_being_seized(state):
    first, second = opened(state, 2)
    state.idle.clear()
    entry = entry_of(state, first)
    del first
    gc.collect()
    assert entry() is None
    assert state.seize() == [second]


# ---- reaping ---------------------------------------------------------------------------------------------------


def test_a_close_that_has_ended_frees_the_slot_and_is_counted_by_its_reason(state):
    conns = opened(state, 3)
    state.idle.clear()
    for conn, reason in zip(conns, ("lost", "unfit", "lost")):
        entry = entry_of(state, conn)
        entry.uses = 5
        closed(state, conn, reason)
        assert entry.cid is None
    assert (state.entries, state.closing, state.size()) == ({}, {}, 0)
    assert state.discards == {"lost": 2, "unfit": 1}
    assert state.uses_of_closed == 15
    assert not state.leaked
    assert not state.lost


def test_one_that_was_drained_and_closed_is_listed_no_more(state):
    (conn,) = opened(state)
    state.drain()
    closed(state, conn)
    assert state.drained == {}
    state.match(NOW)
    assert not state.gate


def test_one_that_was_dropped_while_leased_is_told_of_as_a_leak(state):
    (conn,) = opened(state)
    caller = leased(state, conn)
    entry = entry_of(state, conn)
    caller.conn = conn = None
    gc.collect()
    state.match(NOW)
    assert list(state.leaked) == [entry]
    assert (entry.fate, state.leases, state.entries, state.discards) == ("dropped", {}, {}, {"dropped": 1})


def test_one_that_died_in_the_pools_own_hands_is_dropped_too_but_no_leak(state):
    (conn,) = opened(state)
    state.idle.clear()
    del conn
    gc.collect()
    state.match(NOW)
    assert (state.size(), state.discards, len(state.leaked)) == (0, {"dropped": 1}, 0)


@pytest.mark.parametrize("place", ["leases", "closing", "drained", "entries"])
def test_what_is_forgotten_takes_nothing_from_another_with_its_id(state, place):
    (conn,) = opened(state)
    entry = entry_of(state, conn)
    table = getattr(state, place)
    table[id(conn)] = entry
    for other in (Conn(), conn):  # the driver may have returned the same twice
        stranger = record(other, NOW, None, state.lost.append)
        stranger.cid = id(conn)
        state._forget(stranger)
        assert table[id(conn)] is entry


def test_what_is_forgotten_twice_is_counted_once(state):
    (conn,) = opened(state)
    entry = closed(state, conn)
    state._forget(entry)
    assert state.discards == {"lost": 1}


def test_an_entry_that_was_cut_off_when_half_made_is_passed_over(state):
    conn = Conn()
    entry = record(conn, NOW, None, state.lost.append)
    del entry.cid
    state.lost.append(entry)
    state.match(NOW)
    assert not state.lost
    assert not state.discards


def test_those_who_died_in_line_are_in_line_no_more(state):
    queued(state, Caller())
    closer = Caller()
    state.closers.join(closer)
    del closer
    gc.collect()
    assert (len(state.waiters), len(state.closers)) == (1, 1)
    state.match(NOW)
    assert (len(state.waiters), len(state.closers), len(state.lost)) == (0, 0, 0)


def test_what_is_reaped_when_an_interrupt_strikes_is_found_again(state):
    (conn,) = opened(state)
    entry, real, struck = entry_of(state, conn), state._forget, []

    def strike(entry):
        if not struck:
            struck.append(True)
            raise KeyboardInterrupt
        real(entry)

    state._forget = strike
    state.condemn(conn, "lost")
    state.lost.append(entry)
    with pytest.raises(KeyboardInterrupt):
        state.match(NOW)
    state.match(NOW)
    assert state.size() == 0


def test_the_connection_of_a_thread_that_ended_is_the_pools_until_it_is_clean(state):
    token = ThreadKey()
    key = ThreadRef(token, state.lost.append)
    hash(key)
    (conn,) = opened(state)
    leased(state, conn, key)
    entry = entry_of(state, conn)
    del token
    assert state.match(NOW).clean == [(entry, conn)]
    assert (state.keyed, entry.key, list(state.idle)) == ({}, None, [])
    assert state.under_way()


def test_what_a_thread_has_put_is_not_taken_from_the_next(state):
    token = ThreadKey()
    key = ThreadRef(token, state.lost.append)
    hash(key)
    (conn,) = opened(state)
    leased(state, conn, key)
    put(state, conn, key)
    leased(state, conn, "a")
    del token
    assert state.match(NOW).clean == []
    assert state.keyed == {"a": conn}


# ---- in a child process ----------------------------------------------------------------------------------------


def test_a_child_begins_with_nothing_and_has_counted_nothing(state):
    state.set_limits(0, 9)
    conns = opened(state, 5)
    state.timeouts, state.refused = 2, 3
    state.tally.waits.add(5.0)
    state.aborted = state.connect_errors = state.uses_of_closed = 4
    state.last_error, state.retry_at, state.refill_at, state.wishes = ValueError(), NOW, NOW, [NOW]
    state.discards["lost"] += 1
    state.condemn(conns[0], "lost")
    state.retire(entry_of(state, conns[1]))
    state.leases[id(conns[2])] = entry_of(state, conns[2])
    state.keyed["a"] = conns[3]
    ticket, caller, closer = state.issue(NOW), Caller(), Caller()
    state.arrive(caller)
    state.closers.join(closer)
    state.leaked.append(entry_of(state, conns[4]))
    state.lost.append(entry_of(state, conns[4]))
    state.gate = False
    state.renew()
    assert state.gate
    for held in ("idle", "entries", "leases", "keyed", "tickets", "closing", "drained", "lost", "leaked", "discards"):
        assert not getattr(state, held), held
    assert (len(state.waiters), len(state.closers)) == (0, 0)
    assert (state.opened, state.aborted, state.connect_errors, state.uses_of_closed) == (0, 0, 0, 0)
    assert (state.tally.waits.count, state.timeouts, state.refused) == (0, 0, 0)
    assert (state.last_error, state.retry_at, state.refill_at, state.wishes) == (None, RETIRED, RETIRED, [])
    assert state.begin(ticket) is False
    assert opened(state, lifetime=FOR_EVER)
