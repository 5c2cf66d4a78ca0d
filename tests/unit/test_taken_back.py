"""Who is served before he has begun to connect: his ticket is taken back, and he never waits for it again."""

from __future__ import annotations

import pytest

from dbpool import PoolTimeout, ThreadedConnectionPool
from dbpool.clock import uptime
from dbpool.state import PoolState

from .checks import adds_up
from .pure import NOW, Caller, opened, put, queued
from .threads import Caller as Thread

pytestmark = pytest.mark.usefixtures("undisturbed")


class QuickPut(ThreadedConnectionPool):
    """Has another caller put a connection back just before one is opened."""

    held = None

    def _start(self, ticket):
        conn, self.held = self.held, None
        if conn is not None:
            self.putconn(conn)
        super()._start(ticket)


@pytest.fixture
def pool(make):
    pool = make(QuickPut, 0, 2, check_after=None, ping_after=None)
    pool.held = pool.getconn()
    pool._state.doubt()
    return pool


def test_a_ticket_that_was_taken_back_is_no_longer_the_waiters():
    state = PoolState("alone", 0, 2)
    state.unfit = lambda conn: False
    (conn,) = opened(state)
    holder, waiter = Caller(), Caller()
    queued(state, holder)
    queued(state, waiter)
    assert waiter.ticket is not None
    put(state, conn)
    state.match(NOW)
    assert (waiter.conn, waiter.ticket, state.size()) == (conn, None, 1)


def test_who_has_no_time_for_what_he_is_given_gives_up_in_time(pool):
    with pytest.raises(PoolTimeout):
        Thread(pool.getconn, timeout=0.1).result()
    assert pool.stats().idle == 1
    assert adds_up(pool)


def test_who_is_given_a_dead_one_while_the_server_refuses_gives_up_in_time(pool, driver):
    def ping():
        pool._state.retry_at = uptime() + 60  # another caller's connect has just been refused
        raise OSError

    pool.held.ping = ping
    with pytest.raises(PoolTimeout):
        Thread(pool.getconn, timeout=0.4).result()
    assert driver.calls == 1
    assert adds_up(pool)


def test_who_is_given_a_dead_one_connects_after_all(pool, driver):
    pool.held.mute = True
    assert Thread(pool.getconn, timeout=5).result().number == 2
    assert adds_up(pool)
