"""putconn: what is done to a connection before the next one gets it, at each level and by a callable."""

from __future__ import annotations

import pytest
from fakes import ACTIVE, INERROR, INTRANS, UNKNOWN, FakeConnection, FakeConnector, OperationalError

from dbpool import Connector

from . import dbapi
from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually


def use(pool, status=INTRANS, color="red", **put):
    """Lease a connection, leave it in *status* with another color, put it back, and return it."""
    conn = pool.getconn()
    conn.status, conn.color = status, color
    pool.putconn(conn, **put)
    return conn


def test_a_clean_connection_is_put_back_without_a_word_to_the_server(make, kind):
    pool = make(kind)
    conn = pool.getconn()
    pool.putconn(conn)
    assert (conn.rollbacks, conn.commits, conn.closes) == (0, 0, 0)
    assert pool._pool == [conn]


@pytest.mark.parametrize("status", [INTRANS, INERROR])
def test_an_open_transaction_is_rolled_back(make, kind, status):
    pool = make(kind)
    conn = use(pool, status)
    assert (conn.rollbacks, conn.commits, conn.status) == (1, 0, 0)
    assert pool.getconn() is conn


@pytest.mark.parametrize("status", [ACTIVE, UNKNOWN])
@pytest.mark.parametrize("level", ["rollback", "commit", "clean"])
def test_a_busy_or_broken_connection_is_closed(make, kind, status, level):
    pool = make(kind, maxconn=1, reset=level)
    conn = use(pool, status)
    assert conn.closes == 1
    assert pool.getconn() is not conn
    assert adds_up(pool)


def test_a_connection_whose_rollback_fails_is_closed_and_nothing_is_raised(make, kind):
    pool = make(kind, maxconn=1)
    conn = pool.getconn()
    conn.execute()
    conn.fail_rollback = True
    pool.putconn(conn)
    assert pool.stats().discards == {"reset failed": 1}
    lease_all(pool)


def test_close_closes_a_connection_though_it_is_clean(make, kind):
    pool = make(kind, maxconn=1)
    conn = use(pool, 0, close=True)
    assert (conn.closes, conn.rollbacks) == (1, 0)
    assert pool.stats().discards == {"closed by the caller": 1}
    lease_all(pool)


@pytest.mark.parametrize(
    ("level", "status", "rollbacks", "commits", "color"),
    [
        ("none", INTRANS, 0, 0, "red"),
        ("rollback", INTRANS, 1, 0, "red"),
        ("commit", INTRANS, 0, 1, "red"),
        ("commit", INERROR, 1, 0, "red"),
        ("clean", INTRANS, 1, 0, "white"),
        ("clean", 0, 0, 0, "white"),
    ],
)
def test_each_level_does_what_its_name_says(make, kind, level, status, rollbacks, commits, color):
    conn = use(make(kind, reset=level), status)
    assert (conn.rollbacks, conn.commits, conn.color) == (rollbacks, commits, color)


def test_clean_restores_what_on_connect_set(make, kind):
    pool = make(kind, on_connect=lambda conn: setattr(conn, "color", "blue"))
    assert use(pool, 0, "red").color == "blue"


def test_clean_restores_to_each_connection_what_it_was_itself(make, kind):
    colors = iter(["blue", "green"])
    pool = make(kind, on_connect=lambda conn: setattr(conn, "color", next(colors)))
    first, second = pool.getconn(), pool.getconn()
    first.color, second.color = second.color, first.color
    pool.putconn(first)
    pool.putconn(second)
    assert (first.color, second.color) == ("blue", "green")


def test_clean_restores_though_the_connector_returns_the_connection(kind, driver):
    class Returning(FakeConnector):
        def reset(self, conn, level):
            super().reset(conn, level)
            return conn

    pool = kind(0, 1, connect=Returning(driver.connect))
    assert use(pool).color == "white"
    pool.close()


@pytest.mark.parametrize("level", ["none", "rollback", "commit", "clean"])
def test_a_driver_that_cannot_be_asked_gets_a_rollback_each_time(kind, level):
    pool = kind(0, 1, connect=dbapi, config={"reset": level})
    conn = pool.getconn()
    pool.putconn(conn)
    assert conn.done == {"none": [], "commit": ["commit"]}.get(level, ["rollback"])
    conn.close()
    pool.close()


def test_a_connector_with_a_close_is_enough(kind):
    class Socket:
        closes = 0

        def hang_up(self):
            self.closes += 1

    pool = kind(1, 1, connect=Connector(Socket, close=Socket.hang_up))
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.getconn() is conn
    pool.closeall()
    assert conn.closes == 1


def test_a_connector_that_knows_a_reset_uses_it(kind):
    done = []
    pool = kind(1, 1, connect=Connector(lambda: FakeConnection(1), reset=done.append))
    conn = pool.getconn()
    pool.putconn(conn)
    assert done == [conn]
    pool.closeall()


# ---- a callable --------------------------------------------------------------------------------------------


def test_a_callable_runs_after_a_rollback(make, kind):
    seen = []
    pool = make(kind, reset=lambda conn: seen.append((conn.rollbacks, conn.status)))
    conn = use(pool)
    assert seen == [(1, 0)]
    assert pool.getconn() is conn


def test_a_callable_runs_on_a_clean_connection_too(make, kind):
    seen = []
    use(make(kind, reset=seen.append), status=0)
    assert len(seen) == 1


def test_a_callable_that_returns_the_connection_keeps_it(make, kind):
    pool = make(kind, reset=lambda conn: conn)
    assert use(pool) is pool.getconn()


def test_a_callable_that_leaves_a_transaction_open_has_the_connection_closed(make, kind):
    pool = make(kind, maxconn=1, reset=FakeConnection.execute)
    conn = use(pool)
    assert conn.closes == 1
    assert pool.stats().discards == {"not clean": 1}
    lease_all(pool)


def test_a_callable_that_raises_has_the_connection_closed(make, kind):
    pool = make(kind, maxconn=1, reset=lambda conn: 1 / 0)
    assert use(pool).closes == 1
    lease_all(pool)


def test_a_callable_that_returns_another_connection_has_that_pooled_instead(make, kind, driver):
    pool = make(kind, maxconn=1, reset=lambda conn: driver.connect())
    conn = use(pool)
    assert conn.closes == 1
    fresh = pool.getconn()
    assert (fresh.number, fresh.closed) == (2, False)
    assert pool.stats().discards == {"replaced": 1}
    assert adds_up(pool)
    pool.putconn(fresh)
    lease_all(pool)


def test_another_connection_goes_to_who_waits(make, driver):
    pool = make(maxconn=1, reset=lambda conn: driver.connect())
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    queue.join()
    pool.putconn(conn)
    assert queue.finish() == [0, 1]
    assert queue.given == [2, 3]


def test_a_callable_that_returns_a_connection_that_is_not_clean_has_both_closed(make, kind, driver):
    def reset(conn):
        other = driver.connect()
        other.execute()
        return other

    pool = make(kind, maxconn=1, reset=reset)
    conn = use(pool)
    eventually(lambda: (conn.closed, driver.made[1].closed) == (True, True))  # on a loop, by a task of the pool's
    lease_all(pool)


def test_what_a_callable_returns_by_the_way_is_not_pooled_as_a_connection(kind):
    """Such as the cursor that psycopg 3's and sqlite3's conn.execute() return."""
    pool = kind(0, 1, connect=dbapi, config={"reset": dbapi.Connection.cursor})
    pool.putconn(pool.getconn())
    conn = pool.getconn()
    assert isinstance(conn, dbapi.Connection)
    pool.putconn(conn)
    pool.closeall()


def test_nothing_is_reset_while_others_are_kept_from_the_pool(make):
    """No lock is held meanwhile."""
    go, pool = [], make(reset=lambda conn: eventually(lambda: go or conn.number == 2))
    first, second = pool.getconn(), pool.getconn()
    slow = Caller(pool.putconn, first)
    pool.putconn(second)
    assert pool.getconn() is second
    assert pool.stats().used == 2
    go.append(True)
    slow.result()
    assert pool.stats().idle == 1


def test_a_reset_that_is_interrupted_loses_no_slot(make, kind):
    def reset(conn):
        raise KeyboardInterrupt

    pool = make(kind, maxconn=1, reset=reset)
    conn = pool.getconn()
    with pytest.raises(KeyboardInterrupt):
        pool.putconn(conn)
    assert conn.closed
    assert not pool.getconn().closed


def test_a_put_goes_through_though_the_connection_cannot_be_closed(kind, driver):
    class Stuck(FakeConnector):
        def close(self, conn):
            raise OperationalError("cannot even close")

    pool = kind(0, 1, connect=Stuck(driver.connect))
    pool.putconn(pool.getconn(), close=True)
    lease_all(pool)
    pool.close()


def test_connections_may_be_put_by_another_thread_than_got_them(make, driver):
    pool = make(maxconn=2)
    conns = [pool.getconn(), pool.getconn("a")]
    for conn in conns:
        Caller(pool.putconn, conn).result()
    assert pool.stats().idle == 2
    lease_all(pool)


def test_a_pool_of_things_that_cannot_be_weakly_referenced_works_as_well(kind):
    class Plain:
        __slots__ = ("closes",)

        def __init__(self):
            self.closes = 0

        def close(self):
            self.closes += 1

    pool = kind(1, 2, connect=Plain)
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.getconn() is conn
    pool.putconn(conn, close=True)
    assert conn.closes == 1
    lease_all(pool)
    pool.close()


def test_connections_that_call_themselves_equal_are_not_mixed_up(kind):
    class Twin(FakeConnection):
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 1

    pool = kind(0, 3, connect=FakeConnector(lambda: Twin(1)))
    conns = [pool.getconn(), pool.getconn(), pool.getconn("a")]
    assert len({id(conn) for conn in conns}) == 3
    for conn in conns:
        pool.putconn(conn)
    lease_all(pool)
    pool.close()
