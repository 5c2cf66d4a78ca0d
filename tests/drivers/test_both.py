"""What holds for every driver: whatever one holder leaves behind, the next one does not meet."""

from __future__ import annotations

import gc
from contextlib import closing

import pytest
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PersistentConnectionPool, PoolError, PoolExhausted, SimpleConnectionPool, ThreadedConnectionPool

from . import transfers

KINDS = [SimpleConnectionPool, ThreadedConnectionPool]


@pytest.fixture(params=KINDS, ids=["Simple", "Threaded"])
def pool(request, database):
    """A pool of each class over each driver, with one connection at most."""
    with database.pool(request.param, 0, 1, timeout=0) as pool:
        yield pool


def write(conn, body):
    conn.cursor().execute(f"INSERT INTO note VALUES ('{body}')")


def write_and_fail(pool):
    with pool.connection() as conn:
        write(conn, "lost")
        raise ZeroDivisionError


def notes(conn):
    cursor = conn.cursor()
    cursor.execute("SELECT body FROM note ORDER BY body")
    return [body for (body,) in cursor.fetchall()]


@pytest.mark.parametrize("key", [None, "a"])
def test_a_connection_put_in_its_transaction_comes_back_idle_and_its_row_is_not_there(pool, database, key):
    conn = pool.getconn(key)
    write(conn, "lost")
    assert database.in_transaction(conn)
    pool.putconn(conn, key)
    assert pool.getconn() is conn
    assert not database.in_transaction(conn)
    assert notes(conn) == []
    pool.putconn(conn)


def test_a_connection_put_after_an_error_of_the_server_comes_back_usable(pool, database):
    conn = pool.getconn()
    with pytest.raises(database.module.Error):
        conn.cursor().execute("SELECT * FROM no_such_table")
    pool.putconn(conn)
    conn = pool.getconn()
    assert notes(conn) == []
    pool.putconn(conn)


@pytest.mark.parametrize(("level", "expected"), [("rollback", []), ("clean", []), ("commit", ["kept"])])
def test_each_level_ends_the_transaction_in_its_way(database, level, expected):
    with database.pool(maxconn=1, reset=level) as pool:
        conn = pool.getconn()
        write(conn, "kept")
        pool.putconn(conn)
        with pool.connection() as conn:
            assert notes(conn) == expected


def test_a_callable_runs_on_the_real_connection(database):
    with database.pool(maxconn=1, reset=lambda conn: write(conn, "reset") or conn.commit()) as pool:
        conn = pool.getconn()
        write(conn, "lost")
        pool.putconn(conn)
        with pool.connection() as conn:
            assert notes(conn) == ["reset"]


def test_clean_restores_the_drivers_attributes(pool, database):
    conn = pool.getconn()
    before = getattr(conn, database.attribute)
    setattr(conn, database.attribute, database.changed)
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert getattr(conn, database.attribute) == before
    pool.putconn(conn)


def test_clean_restores_them_after_a_failed_transaction_too(pool, database):
    conn = pool.getconn()
    before = getattr(conn, database.attribute)
    setattr(conn, database.attribute, database.changed)
    with pytest.raises(database.module.Error):
        conn.cursor().execute("SELECT * FROM no_such_table")
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert getattr(conn, database.attribute) == before
    pool.putconn(conn)


def test_clean_keeps_what_on_connect_set(database):
    def on_connect(conn):
        setattr(conn, database.attribute, database.changed)

    with database.pool(maxconn=1, on_connect=on_connect) as pool:
        conn = pool.getconn()
        setattr(conn, database.attribute, None if database.changed is not True else False)
        pool.putconn(conn)
        assert pool.getconn() is conn
        assert getattr(conn, database.attribute) == database.changed
        pool.putconn(conn)


def test_rollback_leaves_the_drivers_attributes(database):
    with database.pool(maxconn=1, reset="rollback") as pool:
        conn = pool.getconn()
        setattr(conn, database.attribute, database.changed)
        pool.putconn(conn)
        conn = pool.getconn()
        assert getattr(conn, database.attribute) == database.changed
        pool.putconn(conn)


def test_a_connection_closed_by_its_user_is_replaced(pool, database):
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    assert pool.stats().size == 0
    again = pool.getconn()
    assert again is not conn
    assert notes(again) == []
    pool.putconn(again)


def test_an_idle_connection_closed_behind_the_pools_back_is_not_lent(pool, database):
    conn = pool.getconn()
    pool.putconn(conn)
    conn.close()
    again = pool.getconn(timeout=5)  # the watch may be closing it just now
    assert again is not conn
    assert notes(again) == []
    pool.putconn(again)


def test_a_block_commits_or_rolls_back(pool):
    with pool.connection() as conn:
        write(conn, "kept")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(pool)
    with pool.connection() as conn:
        assert notes(conn) == ["kept"]


def test_the_pools_errors_are_the_drivers_too(pool, database):
    conn = pool.getconn()
    with pytest.raises(database.module.Error, match=r"^connection pool exhausted") as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolExhausted)
    pool.putconn(conn)
    with pytest.raises(database.module.Error):
        pool.putconn(conn)


@pytest.mark.filterwarnings("ignore:unclosed database")  # sqlite3 says so too, from Python 3.13 on
@pytest.mark.filterwarnings("ignore:.*was deleted while still open")  # and so does psycopg 3
def test_a_dropped_connection_is_noticed(pool):
    pool.getconn()
    gc.collect()  # sqlite3's are in a reference cycle with their statements
    with pytest.warns(ResourceWarning, match="dropped without putconn"):
        pool.putconn(pool.getconn())
    lease_all(pool)


@pytest.mark.filterwarnings("ignore:unclosed database")  # sqlite3 says so too, from Python 3.13 on
@pytest.mark.filterwarnings("ignore:.*was deleted while still open")  # and so does psycopg 3
def test_who_waits_gets_the_slot_of_a_dropped_connection(database, monkeypatch):
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.005)
    monkeypatch.setattr("dbpool.pool.COLLECT_EVERY", 0.0)
    with database.pool(maxconn=1, timeout=10) as pool:
        pool.getconn()
        with pytest.warns(ResourceWarning, match="dropped without putconn"), pool.connection() as conn:
            assert notes(conn) == []


def test_what_on_connect_leaves_open_is_committed(database):
    with database.pool(maxconn=1, on_connect=lambda conn: write(conn, "kept")) as pool:
        conn = pool.getconn()
        assert not database.in_transaction(conn)
        with closing(database.connect()) as other:
            assert notes(other) == ["kept"]
        pool.putconn(conn)


def test_closeall_closes_what_is_leased(database):
    pool = database.pool(maxconn=2, minconn=2)
    conn = pool.getconn()
    pool.closeall()
    with pytest.raises(database.module.Error):
        notes(conn)
    with pytest.raises(PoolError, match="closed"):
        pool.putconn(conn)


def test_the_callable_dsn_is_asked(database):
    asked = []
    pool = ThreadedConnectionPool(
        0, 1, lambda: asked.append(True) or database.arguments[0], connect=database.module, **database.keywords
    )
    for _ in range(2):
        pool.putconn(pool.getconn(), close=True)
    assert len(asked) == 2
    pool.close()


def test_a_function_that_connects_is_enough(database):
    """Its driver is learned from what it returns."""
    keywords = {"check_same_thread": False} if database.module.__name__ == "sqlite3" else {}
    pool = ThreadedConnectionPool(1, 1, connect=lambda: database.connect(**keywords))
    conn = pool.getconn()
    write(conn, "lost")
    pool.putconn(conn)
    assert not database.in_transaction(pool.getconn())
    pool.closeall()
    with pytest.raises(database.module.Error):
        pool.getconn()


def test_a_threads_own_connection_is_rolled_back_when_the_thread_has_ended(database):
    with database.pool(PersistentConnectionPool, 0, 1, timeout=10) as pool:
        Caller(lambda: write(pool.getconn(), "lost")).result()
        conn = pool.getconn()
        assert not database.in_transaction(conn)
        assert notes(conn) == []
        pool.putconn()


def test_who_waits_is_served_in_order(database):
    with database.pool(maxconn=1, timeout=10) as pool:
        conn, queue = pool.getconn(), []
        callers = []
        for number in range(4):
            callers.append(Caller(lambda number=number: _take_turn(pool, number, queue)))
            eventually(lambda: pool.stats().waiting == len(callers))
        pool.putconn(conn)
        for caller in callers:
            caller.result()
        assert queue == [0, 1, 2, 3]


def _take_turn(pool, number, queue):
    conn = pool.getconn()
    queue.append(number)
    pool.putconn(conn)


def test_transfers_by_many_threads_keep_the_sum(database):
    with closing(database.connect()) as conn:
        transfers.create(conn, database.placeholder)
    with database.pool(ThreadedConnectionPool, 0, 3, timeout=30) as pool:
        assert transfers.run(pool, database.placeholder, threads=8) > 0
        lease_all(pool)
        assert adds_up(pool)
        assert pool.stats().opened <= 3
        with pool.connection() as after:
            assert transfers.total(after) == transfers.ACCOUNTS * transfers.BALANCE


def test_reset_none_hands_on_an_open_transaction(database):
    with database.pool(maxconn=1, reset="none") as pool:
        conn = pool.getconn()
        cursor = conn.cursor()
        cursor.execute("DELETE FROM note")
        cursor.close()
        pool.putconn(conn)
        assert pool.getconn() is conn
        assert database.in_transaction(conn)
        conn.rollback()
        pool.putconn(conn)
