"""Entries, tickets and the keys of threads: what each says of itself when new, and what it keeps alive."""

from __future__ import annotations

import gc
import sqlite3

import pytest

from dbpool.entry import (
    ALIVE,
    FOR_EVER,
    RETIRED,
    WRITABLE,
    Entry,
    Status,
    StrongEntry,
    ThreadKey,
    ThreadRef,
    Ticket,
    TicketRef,
    lease_of,
    record,
)

from .pure import NOW, Conn


def weak(lost, **limits):
    conn = Conn()
    return conn, record(conn, NOW, "marks", lost.append, **limits)


def strong(lost, **limits):
    conn = sqlite3.connect(":memory:")
    conn.close()
    return conn, record(conn, NOW, "marks", lost.append, **limits)


@pytest.mark.parametrize("made", [weak, strong])
def test_a_new_one_is_open_unused_unsuspected_and_nobodys(made):
    conn, entry = made([])
    assert entry() is conn
    assert (entry.cid, entry.marks) == (id(conn), "marks")
    assert (entry.uses, entry.told, entry.suspect, entry.depth) == (0, 0, 0, 0)
    assert (entry.by_block, entry.doomed, entry.shared, entry.aborted) == (False, False, False, False)
    assert (entry.fate, entry.key, entry.home, entry.holder) == (None, None, None, None)
    assert (entry.site, entry.socket) == (None, None)
    assert (entry.since, entry.opened, entry.seen) == (NOW, NOW, NOW)


def test_doubts_are_ordered_and_retired_is_before_every_time():
    assert 0 < ALIVE < WRITABLE
    assert RETIRED < 0.0 < FOR_EVER


def test_without_limits_it_is_good_for_ever():
    _, entry = weak([])
    assert (entry.use_by, entry.look_at) == (FOR_EVER, FOR_EVER)


@pytest.mark.parametrize(("lifetime", "look_in", "look_at"), [(30.0, 5.0, NOW + 5), (5.0, 30.0, NOW + 5)])
def test_it_is_looked_at_after_its_time_or_at_the_end_of_its_life(lifetime, look_in, look_at):
    _, entry = weak([], lifetime=lifetime, look_in=look_in)
    assert (entry.use_by, entry.look_at) == (NOW + lifetime, look_at)


def test_one_that_can_be_known_weakly_is_and_tells_of_its_death():
    lost = []
    conn, entry = weak(lost)
    assert type(entry) is Entry
    assert lost == []
    del conn
    gc.collect()
    assert lost == [entry]
    assert entry() is None


def test_one_that_cannot_is_kept():
    lost = []
    conn, entry = strong(lost)
    cid = id(conn)
    assert type(entry) is StrongEntry
    del conn
    gc.collect()
    assert id(entry()) == cid
    assert lost == []


def test_each_lease_of_a_connection_is_told_from_all_others():
    conn, entry = weak([])
    entries = {id(conn): entry}
    entry.uses = 1
    first = lease_of(entries, conn)
    assert first == lease_of(entries, conn) == (id(conn), 1)
    entry.uses = 2
    assert lease_of(entries, conn) != first


def test_what_is_not_open_has_no_lease():
    conn, entry = weak([])
    assert lease_of({}, conn) is None
    assert lease_of({id(conn): entry, id(None): entry}, None) is None


def test_a_ticket_is_claimed_by_the_first_who_asks():
    ticket = Ticket(NOW, 3, None)
    assert (ticket.deadline, ticket.generation, ticket.owner, ticket.started, ticket.ref) == (NOW, 3, None, False, None)
    assert bool(ticket.job)
    assert ticket.claim() is True
    assert not ticket.job
    assert ticket.claim() is False


@pytest.mark.parametrize(("make", "reference"), [(lambda: Ticket(NOW, 0, None), TicketRef), (ThreadKey, ThreadRef)])
def test_tickets_and_the_keys_of_threads_are_themselves_and_tell_of_their_death(make, reference):
    lost = []
    thing, other = make(), make()
    ref = reference(thing, lost.append)
    kept = {ref: "here"}
    assert kept[reference(thing)] == "here"
    assert reference(other) not in kept
    del thing
    gc.collect()
    assert lost == [ref]
    assert kept[ref] == "here"


@pytest.mark.parametrize(
    ("status", "successors"),
    [
        ("CONNECTING", {"IDLE", "LEASED", "CLOSED"}),
        ("IDLE", {"LEASED", "CHECKING", "CLOSED"}),
        ("CHECKING", {"IDLE", "LEASED", "CLOSED"}),
        ("LEASED", {"IDLE", "LEASED", "CHECKING", "CLOSED"}),
        ("CLOSED", set()),
    ],
)
def test_where_a_connection_can_go_from_where_it_is(status, successors):
    assert {after.name for after in Status[status].successors} == successors
    assert Status[status].value == status.lower()
