"""connection(): commits or rolls back, always puts back, nests on one key, and knows its own lease."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from fakes import IDLE, FakeConnection, FakeConnector, OperationalError

from dbpool import PersistentConnectionPool, PoolClosed, PoolError, PoolExhausted, PoolListener, ThreadedConnectionPool

from . import dbapi
from .checks import lease_all
from .threads import Caller, eventually


@pytest.fixture(params=[None, "a"], ids=["unkeyed", "keyed"])
def key(request):
    """Without a key, and with one."""
    return request.param


def run_block(pool, key, *steps, error=None):
    """Enter a block, call each of *steps* with the connection, and raise *error*, if there is one."""
    with pool.connection(key) as conn:
        for step in steps:
            step(conn)
        if error is not None:
            raise error


def spoil_rollback(conn):
    conn.fail_rollback = True


def test_success_commits_and_puts_back(make, kind, key):
    pool = make(kind)
    with pool.connection(key) as conn:
        conn.execute()
        assert pool.stats().used == 1
    assert (conn.commits, conn.rollbacks) == (1, 0)
    assert pool.stats().used == 0
    lease_all(pool)


def test_an_error_rolls_back_puts_back_and_goes_on(make, kind, driver, key):
    pool = make(kind)
    with pytest.raises(ZeroDivisionError):
        run_block(pool, key, FakeConnection.execute, error=ZeroDivisionError)
    [conn] = driver.made
    assert (conn.commits, conn.rollbacks) == (0, 1)
    assert pool.stats().used == 0
    lease_all(pool)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_rolls_back_and_puts_back_too(make, kind, driver, key, error):
    pool = make(kind)
    with pytest.raises(error):
        run_block(pool, key, FakeConnection.execute, error=error)
    [conn] = driver.made
    assert (conn.commits, conn.rollbacks) == (0, 1)
    lease_all(pool)


def test_the_connection_is_the_raw_one(make, kind, driver):
    with make(kind).connection() as conn:
        assert conn is driver.made[0]


def test_a_block_waits_and_fails_as_getconn_does(make, kind):
    pool = make(kind, maxconn=1, timeout=0)
    with pool.connection(), pytest.raises(PoolExhausted, match="exhausted"), pool.connection():
        pass
    pool.closeall()
    with pytest.raises(PoolClosed), pool.connection():
        pass


def test_a_commit_that_fails_is_raised_and_the_connection_put_back(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(OperationalError, match="server closed the connection"):
        run_block(pool, key, FakeConnection.execute, FakeConnection.close)
    assert pool.stats().used == 0
    lease_all(pool)


def test_a_rollback_that_fails_does_not_hide_the_users_error(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(ZeroDivisionError):
        run_block(pool, key, FakeConnection.execute, spoil_rollback, error=ZeroDivisionError)
    assert driver.made[0].closed
    lease_all(pool)


def test_a_driver_that_cannot_be_asked_is_committed_and_rolled_back(kind):
    pool = kind(1, 1, connect=dbapi)
    with pool.connection() as conn:
        pass
    assert conn.done[0] == "commit"
    with pytest.raises(ZeroDivisionError):
        run_block(pool, None, error=ZeroDivisionError)
    assert conn.done[-2] == "rollback"
    pool.close()


def test_one_lease_object_serves_one_block_after_the_other(make, kind):
    pool = make(kind, maxconn=1)
    lease = pool.connection()
    for _ in range(3):
        with lease as conn:
            conn.execute()
    assert conn.commits == 3
    lease_all(pool)


# ---- nested ------------------------------------------------------------------------------------------------


def test_blocks_nested_on_one_key_share_the_connection_and_the_outermost_commits(make, kind):
    pool = make(kind)
    with pool.connection("a") as outer:
        outer.execute()
        with pool.connection("a") as inner:
            with pool.connection("a") as innermost:
                assert outer is inner is innermost
            assert (outer.commits, outer.rollbacks) == (0, 0)
        assert (outer.commits, outer.rollbacks, pool.stats().used) == (0, 0, 1)
    assert (outer.commits, outer.rollbacks, pool.stats().used) == (1, 0, 0)


def test_blocks_without_a_key_do_not_share(make, kind):
    pool = make(kind)
    with pool.connection() as outer, pool.connection() as inner:
        assert outer is not inner


def test_an_error_of_an_inner_block_dooms_the_outer_to_roll_back(make, kind):
    pool = make(kind)
    with pool.connection("a") as conn:
        conn.execute()
        with pytest.raises(ZeroDivisionError):
            run_block(pool, "a", error=ZeroDivisionError)
    assert (conn.commits, conn.rollbacks) == (0, 1)
    assert pool.stats().used == 0


def test_a_doomed_block_dooms_no_later_one(make, kind):
    pool = make(kind, maxconn=1)
    with pytest.raises(ZeroDivisionError):
        run_block(pool, "a", error=ZeroDivisionError)
    with pool.connection("a") as conn:
        conn.execute()
    assert (conn.commits, conn.rollbacks) == (1, 1)


def test_a_block_on_a_key_that_is_leased_already_commits_and_leaves_the_lease(make, kind):
    pool = make(kind)
    conn = pool.getconn("a")
    with pool.connection("a") as same:
        same.execute()
        assert same is conn
    assert (conn.commits, pool.stats().used) == (1, 1)
    pool.putconn(conn, "a")
    lease_all(pool)


def test_a_failed_block_on_a_key_that_is_leased_already_dooms_no_later_one(make, kind):
    pool = make(kind)
    conn = pool.getconn("a")
    with pytest.raises(ZeroDivisionError):
        run_block(pool, "a", FakeConnection.execute, error=ZeroDivisionError)
    assert (conn.commits, conn.rollbacks) == (0, 1)
    with pool.connection("a"):
        conn.execute()
    assert (conn.commits, conn.rollbacks) == (1, 1)
    pool.putconn(conn)


# ---- exact -------------------------------------------------------------------------------------------------


def test_a_connection_put_inside_its_block_is_said_so(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(PoolError), pool.connection(key) as conn:
        pool.putconn(conn)
    assert pool.stats().idle == 1
    lease_all(pool)


def test_a_connection_put_inside_its_block_and_then_idle_is_not_touched(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(PoolError), pool.connection(key) as conn:
        pool.putconn(conn)
    assert (conn.commits, conn.rollbacks) == (0, 0)


def test_a_connection_put_inside_its_block_does_not_hide_the_users_error(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(ZeroDivisionError):
        run_block(pool, key, pool.putconn, error=ZeroDivisionError)
    lease_all(pool)


@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_that_is_anothers_by_the_end_of_the_block_is_left_alone(make, kind, driver, key, fails):
    pool = make(kind, maxconn=1)
    steps = (pool.putconn, lambda _: pool.getconn("b"), FakeConnection.execute)
    with pytest.raises(ZeroDivisionError if fails else PoolError):
        run_block(pool, key, *steps, error=ZeroDivisionError if fails else None)
    [conn] = driver.made
    assert (conn.commits, conn.rollbacks) == (0, 0)
    assert pool._used == {"b": conn}
    pool.putconn(conn, "b")
    lease_all(pool)


def test_the_error_of_a_block_is_told_though_the_pool_is_closed_as_it_rolls_back(make):
    pool = make(maxconn=1)

    def fail():
        with pool.connection() as conn:
            conn.execute()
            conn.rollback = pool.closeall
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pool.closed


def test_a_connection_closed_inside_its_block_by_the_pool_is_said_so(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(PoolError), pool.connection(key):
        pool.closeall()
    assert pool.stats().size == 0


def test_a_connection_discarded_inside_its_block_is_said_so(make, kind, key):
    pool = make(kind, maxconn=1)
    with pytest.raises(PoolError), pool.connection(key) as conn:
        pool.putconn(conn, close=True)
    lease_all(pool)


@pytest.mark.synchronous
def test_a_pool_that_is_closed_while_a_block_is_entered_raises_a_pool_error(driver, kind, key):
    class Closer(PoolListener):
        def acquired(self, pool, conn):
            pool.closeall()

    pool = kind(0, 1, connect=FakeConnector(driver.connect), config={"listener": Closer()})
    with pytest.raises(PoolError), pool.connection(key):
        pass
    assert driver.open == []


def test_a_drain_inside_a_block_lets_it_commit_and_then_closes(make, kind, key):
    pool = make(kind, maxconn=1)
    with pool.connection(key) as conn:
        conn.execute()
        pool.drain()
    assert (conn.commits, conn.closes) == (1, 1)
    lease_all(pool)


def test_a_block_hands_over_to_who_waits(make):
    pool = make(maxconn=1)
    with pool.connection() as conn:
        caller = Caller(pool.getconn)
        eventually(lambda: pool.stats().waiting)
    assert caller.result() is conn


def test_two_threads_that_share_a_key_share_its_block(make):
    pool = make(maxconn=2)
    inside, go = [], []

    def work():
        with pool.connection("a") as conn:
            inside.append(conn)
            eventually(lambda: go)

    with pool.connection("a") as conn:
        conn.execute()
        caller = Caller(work)
        eventually(lambda: inside)
    assert inside == [conn]
    assert (conn.commits, pool.stats().used) == (0, 1)
    go.append(True)
    caller.result()
    assert (conn.commits, pool.stats().used) == (1, 0)


@pytest.mark.parametrize("fails", [False, True])
def test_who_comes_under_a_key_while_a_block_on_it_ends_has_a_connection_of_its_own(driver, waiting_kind, fails):
    """Else it would go on using what is put back, and leased to another."""
    ending, go = [], []

    class Slow(FakeConnector):
        def commit(self, conn):
            self.hold(conn)
            super().commit(conn)

        def rollback(self, conn):
            self.hold(conn)
            super().rollback(conn)

        def hold(self, conn):
            if not ending:
                ending.append(conn)
                eventually(lambda: go)

    pool = waiting_kind(0, 3, connect=Slow(driver.connect), config={"detect_deadlock": False})
    first = Caller(run_block, pool, "a", FakeConnection.execute, error=ZeroDivisionError() if fails else None)
    eventually(lambda: ending)
    with pool.connection("a") as second:
        go.append(True)
        eventually(lambda: first.ended)
        third = pool.getconn()
        assert second is not third
        assert second is not ending[0]
    pool.putconn(third)
    assert pool.stats().used == 0
    pool.close()


# ---- a thread's own ----------------------------------------------------------------------------------------


def test_a_threads_blocks_share_its_connection(make):
    pool = make(PersistentConnectionPool, maxconn=2)
    with pool.connection() as outer:
        outer.execute()
        with pool.connection() as inner:
            assert inner is outer
        assert outer.commits == 0
    assert (outer.commits, pool.stats().used) == (1, 0)
    lease_all(pool)


def test_an_error_of_a_threads_inner_block_dooms_the_outer(make):
    pool = make(PersistentConnectionPool, maxconn=2)
    with pool.connection() as conn:
        conn.execute()
        with pytest.raises(ZeroDivisionError):
            run_block(pool, None, error=ZeroDivisionError)
    assert (conn.commits, conn.rollbacks) == (0, 1)


def test_another_threads_block_has_its_own_connection(make):
    pool = make(PersistentConnectionPool, maxconn=2)

    def work():
        with pool.connection() as conn:
            return conn.number

    with pool.connection() as conn:
        assert Caller(work).result() != conn.number


@pytest.mark.synchronous
def test_a_block_on_a_key_whose_lease_ends_just_before_it_gives_back_its_own(make):
    pool = make(maxconn=1)
    conn, real = pool.getconn("a"), pool._obtain

    def obtain(key):
        pool.putconn(conn, "a")  # another thread, which shared the key
        pool._obtain = real
        return real(key)

    pool._obtain = obtain
    with pool.connection("a") as again:
        assert again is conn
    assert (pool.stats().idle, pool.stats().used) == (1, 0)


@pytest.mark.synchronous
def test_a_block_on_a_key_whose_lease_ends_just_after_begins_another(make):
    pool = make(maxconn=1)
    conn, real = pool.getconn("a"), pool._obtain

    def obtain(key):
        found = real(key)
        pool.putconn(conn, "a")
        pool._obtain = real
        return found

    pool._obtain = obtain
    with pool.connection("a") as again:
        assert again is conn
        assert pool.stats().used == 1
    assert (pool.stats().idle, pool.stats().used) == (1, 0)


def test_an_interrupted_rollback_has_the_connection_closed(make, kind, monkeypatch):
    """A deadline of it may still be under way."""
    pool = make(kind, 0, 1)

    def interrupted(conn):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool._opener.connector, "rollback", interrupted)
    with pytest.raises(KeyboardInterrupt), pool.connection() as conn:
        raise ValueError
    del conn
    monkeypatch.undo()
    assert pool.getconn(timeout=5 if kind is ThreadedConnectionPool else 0) is not None
    assert pool.stats().opened == 2


@pytest.mark.parametrize("fails", [False, True])
def test_who_asks_for_the_key_while_its_last_block_ends_does_not_join_it(make, driver, fails):
    """What it began would be committed or rolled back by the other thread, and its connection given away."""
    pool = make(maxconn=2, timeout=10)
    ending, go, first = threading.Event(), threading.Event(), []

    class Slow(FakeConnection):
        def end(self):
            ending.set()
            assert go.wait(20)

        def commit(self):
            self.end()
            super().commit()

        def rollback(self):
            self.end()
            super().rollback()

    pool._opener.connector._connect = lambda: Slow(1)

    def use():
        with suppress(ZeroDivisionError), pool.connection("a") as conn:
            conn.execute()
            first.append(conn)
            if fails:
                raise ZeroDivisionError

    caller = Caller(use)
    assert ending.wait(20)
    assert [user.key for user in pool.holders()] == [None]  # it is still held
    other = Caller(pool.connection("a").__enter__).result()
    assert other is not first[0]
    go.set()
    caller.result()
    assert (other.status, pool.stats().idle) == (IDLE, 1)
    pool.putconn(other, "a")
    lease_all(pool)


@pytest.mark.synchronous  # a step of the pool's for threads
def test_a_block_within_anothers_lease_does_not_put_it_when_that_one_joins_while_it_ends(make):
    """Who begins the lease may join it last: after a block that came later and ends already."""
    pool = make(minconn=1)
    first, second = pool.connection("key"), pool.connection("key")
    conn = pool._obtain("key")  # the first is on its way into its block

    def commit():
        assert first._join(conn, None)

    with second:
        conn.commit = commit
    del conn.commit
    assert pool._state.keyed["key"] is conn
    first.__exit__(None, None, None)
    assert pool.stats().idle == 1
