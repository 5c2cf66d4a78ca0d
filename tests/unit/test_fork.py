"""What a forked child does with its parent's connections, tried without a fork: which descriptors it cuts off."""

from __future__ import annotations

import os

import pytest

from dbpool import PoolError, fork

pytestmark = pytest.mark.synchronous


@pytest.fixture(autouse=True)
def _kept_for_this_test(monkeypatch):
    monkeypatch.setattr(fork, "_kept", [])


@pytest.fixture
def pipe():
    """The reading end of a pipe, and the writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def test_a_descriptor_that_is_still_the_same_is_cut_off(pipe):
    reader, writer = pipe
    fork.set_aside("conn", fork.socket_of(writer))
    os.write(writer, b"Terminate")
    os.close(writer)
    assert os.read(reader, 1) == b"", "it reached the other end"
    assert fork.is_set_aside("conn")


def test_a_descriptor_that_is_anothers_by_now_is_left_alone(pipe):
    reader, writer = pipe
    socket = fork.socket_of(reader)
    fork.set_aside("conn", (writer, *socket[1:2], -1))
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"


def test_what_is_no_descriptor_has_no_socket(pipe):
    assert fork.socket_of(None) is None
    assert fork.socket_of(10**6) is None


def test_a_child_begins_with_an_empty_pool_and_refuses_the_parents_lease(make, kind):
    pool = make(kind, 0, 2)
    leased, idle = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    keyed = pool.getconn("a")
    assert keyed is idle
    pool._renew_after_fork()  # what the child does
    assert (pool.stats().size, pool.stats().opened) == (0, 0)
    with pytest.raises(PoolError, match="leased before this process was forked"):
        pool.putconn(leased)
    assert pool.getconn("a") not in (leased, idle)
    assert not leased.closes
    assert not idle.closes


def test_a_closed_pool_stays_closed_in_the_child(make):
    pool = make()
    pool.closeall()
    pool._renew_after_fork()
    assert pool.closed
    with pytest.raises(PoolError, match="closed"):
        pool.getconn()


def test_a_system_without_fork_is_no_hindrance(make, monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    monkeypatch.setattr(fork, "_watching", False)
    pool = make()
    pool.putconn(pool.getconn())
    assert not fork._watching


def test_what_a_callback_has_forked_away_from_is_not_closed(make, driver):
    pool = make(maxconn=1)
    conn = pool.getconn()
    pool._let_go(conn, pool._process + 1)  # it was opened when this was another process
    assert not conn.closes
    assert fork.is_set_aside(conn)
    pool._let_go(driver.connect(), pool._process)
    assert driver.made[-1].closes == 1


def test_connections_are_held_while_the_process_is_forked(make):
    """A child frees what other threads have, before it asks anybody."""
    pool = make(maxconn=1)
    conn = pool.getconn()
    fork._hold_all()
    try:
        assert any(held is conn for held in fork._held)
    finally:
        fork._held.clear()


def test_a_proxy_of_the_parents_is_not_given_back_in_the_child(make):
    pool = make(maxconn=1)
    proxy = pool.connect()
    conn = proxy.raw
    pool._process += 1
    del proxy
    assert conn.rollbacks == 0
    assert pool.stats().used == 1
    pool._process -= 1
    pool.putconn(conn)
