"""The watch: which connections the other side has closed, and what a pool does about them."""

from __future__ import annotations

import os
import select
import socket
import types

import pytest

from dbpool import ThreadedConnectionPool, fork
from dbpool import watch as module
from dbpool.entry import record
from dbpool.housekeeper import Housekeeper
from dbpool.watch import Watch, is_readable

from .checks import adds_up
from .sockets import LineConnector
from .starting import Starter
from .threads import Caller, eventually

EPOLL = hasattr(select, "epoll")
needs_epoll = pytest.mark.skipif(not EPOLL, reason="this system has no epoll")


class Pool:
    """Something that can be weakly referenced."""


@pytest.fixture
def watch():
    watch = Watch()
    yield watch
    watch.close()


@pytest.fixture
def connector():
    yield from LineConnector().ended()


@pytest.fixture
def line(connector):
    return connector.connect()


@pytest.fixture
def pool(connector):
    """Two lines may be open, none is ever looked at when it is handed out."""
    pool = ThreadedConnectionPool(
        0, 2, connect=connector, config={"check_after": None, "ping_after": None, "detect_deadlock": False}
    )
    yield pool
    pool.close(timeout=0)


def entry_of(conn):
    entry = record(conn, 0.0, None, [].append)
    entry.socket = fork.socket_of(conn.fileno())
    return entry


# ---- by itself ---------------------------------------------------------------------------------------------


def test_readable_is_what_has_something_to_read_or_has_ended(line):
    assert not is_readable(line.fileno())
    line.peer.send(b"x")
    assert is_readable(line.fileno())
    assert line.socket.recv(1) == b"x"
    assert not is_readable(line.fileno())
    line.peer.close()
    assert is_readable(line.fileno())


def test_the_bell_wakes_who_waits_and_is_heard_if_it_rang_before(watch):
    caller = Caller(watch.wait, None)
    watch.ring()
    assert caller.result() == []
    watch.ring()
    assert watch.wait(None) == []
    assert watch.wait(0.001) == [], "it rang once"


def test_the_bell_can_be_rung_without_end_while_nobody_listens(watch):
    for _ in range(100_000):
        watch.ring()
    assert watch.wait(0) == []


@needs_epoll
def test_a_line_that_the_other_side_closed_is_told_once(watch, line):
    pool, entry = Pool(), entry_of(line)
    watch.add(pool, entry)
    assert watch.wait(0) == []
    line.peer.close()
    ((told_pool, told_entry),) = watch.wait(5)
    assert told_pool is pool
    assert told_entry is entry
    assert watch.wait(0) == []


@needs_epoll
def test_a_line_that_is_dead_already_is_told_at_once(watch, line):
    line.peer.close()
    pool = Pool()
    watch.add(pool, entry_of(line))
    assert len(watch.wait(5)) == 1


@needs_epoll
def test_one_that_the_other_side_only_finished_writing_to_is_lost_too(watch, line):
    pool = Pool()
    watch.add(pool, entry_of(line))
    line.peer.shutdown(socket.SHUT_WR)
    assert len(watch.wait(5)) == 1


@needs_epoll
def test_it_is_silent_under_traffic_and_our_own_close(watch, line):
    pool = Pool()
    watch.add(pool, entry_of(line))
    for _ in range(50):
        line.peer.send(b"x" * 1000)
        line.socket.recv(1000)
        line.socket.send(b"y" * 1000)
        line.peer.recv(1000)
        assert watch.wait(0) == []
    line.close()
    assert watch.wait(0) == []


@needs_epoll
@pytest.mark.parametrize("gone", ["pool", "conn", "number"])
def test_an_event_of_something_that_is_no_more_is_not_told(watch, connector, gone):
    line, pool = connector.connect(), Pool()
    entry = entry_of(line)
    watch.add(pool, entry)
    if gone == "number":
        entry.socket = (*entry.socket[:2], -1)  # the number is another's: not the same inode
    line.peer.close()
    keep = line.socket
    if gone == "pool":
        del pool
    if gone == "conn":
        connector.lines.clear()
        del line
        assert entry() is None
    assert watch.wait(0) == []
    keep.close()


@needs_epoll
def test_a_number_that_was_given_away_again_is_confirmed_on_its_present_owner(watch, connector):
    first, second, pool = connector.connect(), connector.connect(), Pool()
    watch.add(pool, entry_of(first))
    number, copy = first.fileno(), first.socket.dup()  # as a forked child would have one: the registration stays
    os.dup2(second.fileno(), number)
    first.peer.close()
    assert watch.wait(0) == [], "the number belongs to a line that is fine"
    copy.close()


@needs_epoll
def test_a_number_whose_old_registration_is_still_there_is_watched_anew(watch, connector):
    first, second, pool = connector.connect(), connector.connect(), Pool()
    watch.add(pool, entry_of(first))
    watch.add(pool, entry_of(first))  # the number is registered already
    first.peer.close()
    assert len(watch.wait(5)) == 1
    assert not watch.wait(0)
    second.peer.close()


@needs_epoll
def test_what_cannot_be_polled_is_left_alone(watch, tmp_path, line):
    entry, pool = entry_of(line), Pool()
    with open(tmp_path / "a file", "w") as file:
        entry.socket = fork.socket_of(file.fileno())
        watch.add(pool, entry)
    assert not watch._watched
    entry.socket = None
    watch.add(pool, entry)
    assert not watch._watched


def test_where_there_is_no_epoll_only_the_bell_works(monkeypatch, line):
    without = types.SimpleNamespace(**{name: getattr(select, name) for name in dir(select) if name != "epoll"})
    monkeypatch.setattr(module, "select", without)
    watch = Watch()
    watch.add(Pool(), entry_of(line))
    assert not watch._watched
    line.peer.close()
    assert watch.wait(0.001) == []
    watch.ring()
    assert watch.wait(None) == []
    watch.close()


# ---- in a pool ---------------------------------------------------------------------------------------------


@needs_epoll
def test_an_idle_connection_that_the_server_closes_is_discarded_and_all_others_are_doubted(pool, connector):
    first, second = pool.getconn(), pool.getconn()
    pool.putconn(first)
    first.peer.close()
    eventually(lambda: pool.stats().discards == {"lost": 1})
    assert first.closes == 1
    assert pool._entries[id(second)].suspect
    assert adds_up(pool)


@needs_epoll
def test_one_that_is_leased_is_closed_when_it_is_put_without_a_rollback(pool):
    conn = pool.getconn()
    entry = pool._entries[id(conn)]
    conn.peer.close()
    eventually(lambda: entry.use_by < 0)
    assert not conn.closes, "it was closed in its user's hands"
    pool.putconn(conn)
    assert (conn.closes, conn.rollbacks) == (1, 0)
    assert pool.stats().discards == {"lost": 1}
    assert pool.getconn().fileno() >= 0


@needs_epoll
def test_minconn_is_restored_when_connections_are_lost(connector):
    with ThreadedConnectionPool(2, 2, connect=connector, config={"detect_deadlock": False}) as pool:
        for line in list(connector.lines):
            line.peer.close()
        eventually(lambda: pool.stats().opened == 4 and pool.stats().idle == 2)
        assert pool.stats().discards == {"lost": 2}


@needs_epoll
def test_one_that_was_closed_meanwhile_is_not_lost_as_well(pool):
    conn = pool.getconn()
    entry = pool._entries[id(conn)]
    pool.putconn(conn, close=True)
    pool._lose([entry])
    assert pool.stats().discards == {"closed by the caller": 1}
    assert not pool._state.doubts


@needs_epoll
def test_a_connection_that_a_reset_gave_in_place_of_another_is_watched_too(connector):
    options = {"reset": lambda conn: connector.connect(), "detect_deadlock": False, "check_after": None}
    with ThreadedConnectionPool(0, 1, connect=connector, config=options) as pool:
        pool.putconn(pool.getconn())
        assert pool.stats().discards == {"replaced": 1}
        connector.lines[-1].peer.close()
        eventually(lambda: pool.stats().discards.get("lost"))


@needs_epoll
def test_the_housekeeper_tells_each_pool_of_its_own(connector, monkeypatch):
    class Losing:
        def __init__(self):
            self.lost = []

        def _lose(self, entries):
            self.lost += entries

    starter = Starter()
    monkeypatch.setattr("dbpool.housekeeper.start_new_thread", starter)
    keeper, pools = Housekeeper(), [Losing(), Losing()]
    lines = [connector.connect() for _ in pools]
    entries = [entry_of(line) for line in lines]
    kept = keeper.begin(60.0, lambda: None)
    for pool, entry, line in zip(pools, entries, lines):
        keeper.watch(pool, entry)
        line.peer.close()
    eventually(lambda: all(pool.lost for pool in pools))
    assert [pool.lost[0] is entry for pool, entry in zip(pools, entries)] == [True, True]
    assert keeper.cancel(kept)
    keeper.pause()
    eventually(lambda: not starter.alive)
    keeper._watch.close()
