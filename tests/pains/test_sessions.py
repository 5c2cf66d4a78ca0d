"""Pains 13, 14, 18, 24, 32: what a connection's last user leaves behind, and what looking after it costs."""

from __future__ import annotations

import pytest
from asking import ask, tell
from servers import import_or_skip
from unit.threads import Caller, eventually

from .sessions import Log, administrator, answers, kill, lease, order, pid_of, put_all, warm

psycopg2 = import_or_skip("psycopg2")
IDLE, ACTIVE, INTRANS, INERROR = range(4)


def status(conn):
    """Return the transaction status, which the driver knows without asking."""
    return int(conn.info.transaction_status)


def again(pool, conn):
    """Give *conn* back and return it as its next holder gets it."""
    pool.putconn(conn)
    found = pool.getconn()
    assert found is conn, "it was closed instead"
    return found


# ---- 13: one request's settings show up in the next ------------------------------------------------------------------

FORK = {"autocommit": True, "isolation_level": 3, "readonly": True, "deferrable": True, "cursor_factory": "DictCursor"}
ATTRIBUTES = {
    "psycopg2": FORK,
    "ksycopg2": FORK,
    "psycopg": {"autocommit": True, "isolation_level": 3, "read_only": True, "deferrable": True},
}


@pytest.mark.fault(30)
def test_pain_13_the_drivers_attributes_are_restored_without_a_round_trip(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    for name, value in ATTRIBUTES[driver.__name__].items():
        if name == "cursor_factory":
            value = __import__(f"{driver.__name__}.extras").extras.DictCursor  # noqa: PLW2901
        before, log = getattr(conn, name), Log(town)
        setattr(conn, name, value)
        assert getattr(conn, name) != before
        conn = again(pool, conn)
        assert getattr(conn, name) == before
        assert log.statements() == []
    pool.putconn(conn)


LEFT = {
    "a setting": ("SET statement_timeout = '77s'", "SELECT current_setting('statement_timeout') = '77s'"),
    "a path": ("SET search_path = pg_catalog", "SELECT current_setting('search_path') = 'pg_catalog'"),
    "a temporary table": ("CREATE TEMP TABLE mine (a int)", "SELECT to_regclass('pg_temp.mine') IS NOT NULL"),
    "a lock": (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "a channel": ("LISTEN mine", "SELECT count(*) > 0 FROM pg_listening_channels()"),
}


@pytest.mark.parametrize("trace", LEFT)
def test_pain_13_session_leaves_nothing_of_the_user_before(town, make, driver, trace):
    leave, is_there = LEFT[trace]
    pool = make(town.dsn, 0, 1, driver=driver, reset="session")
    conn = pool.getconn()
    tell(conn, leave)
    conn.commit()
    assert ask(conn, is_there)
    conn = again(pool, conn)
    assert not ask(conn, is_there)
    pool.putconn(conn)


@pytest.mark.fault(28)
def test_pain_13_the_levels_can_be_chosen(town, make):
    found = {}
    for level in ("none", "rollback", "clean", "session"):
        pool = make(town.dsn, 0, 1, reset=level)
        conn = pool.getconn()
        tell(conn, "SET work_mem = '77MB'")
        conn.commit()
        conn.cursor_factory = psycopg2.extensions.cursor
        tell(conn, "SELECT 1")
        conn = again(pool, conn)
        in_transaction, attribute = status(conn), conn.cursor_factory
        found[level] = (in_transaction, attribute is not None, ask(conn, "SHOW work_mem") == "77MB")
        conn.rollback()
        pool.putconn(conn)
    assert found == {
        "none": (INTRANS, True, True),
        "rollback": (IDLE, True, True),
        "clean": (IDLE, False, True),
        "session": (IDLE, False, False),
    }


def fail(conn):
    tell(conn, "SELECT 1/0")


@pytest.mark.parametrize("reset", [fail, "session"])
def test_pain_13_a_failed_reset_discards_the_connection(town, make, driver, reset):
    pool = make(town.dsn, 0, 1, driver=driver, reset=reset)
    conn = pool.getconn()
    old = pid_of(conn)
    if reset == "session":
        kill(town, [old])
    pool.putconn(conn)
    assert conn.closed
    assert pool.stats().size == 0
    conn = pool.getconn()
    assert pid_of(conn) != old
    pool.putconn(conn)


# ---- 14: returned in a transaction -----------------------------------------------------------------------------------


def test_pain_14_a_connection_that_is_idle_comes_back_without_a_round_trip(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    ask(conn, "SELECT 1")
    conn.commit()
    log = Log(town)
    pool.putconn(conn)
    assert log.statements() == []


@pytest.mark.fault(27)
@pytest.mark.parametrize("left", ["SELECT 1", "SELECT 1/0"])
def test_pain_14_an_open_or_failed_transaction_is_rolled_back(town, make, driver, left):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    try:
        tell(conn, left)
    except driver.Error:
        pass
    assert status(conn) == (INTRANS if left == "SELECT 1" else INERROR)
    log = Log(town)
    conn = again(pool, conn)
    assert status(conn) == IDLE
    assert log.statements() == ["ROLLBACK"]
    pool.putconn(conn)


def test_pain_14_a_connection_that_is_busy_or_closed_is_discarded(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    with administrator(town) as other:
        tell(other, "SELECT pg_advisory_lock(14)")
        conn = pool.getconn()
        user = Caller(tell, conn, "SELECT pg_advisory_lock(14)")
        eventually(lambda: status(conn) == ACTIVE)
        pool.putconn(conn)
        with pytest.raises(driver.Error):
            user.result()
    assert conn.closed
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    assert pool.stats().size == 0
    with pool.connection() as conn:
        assert answers(conn)


def test_pain_14_a_block_commits_or_rolls_back(town, make, driver):
    order(town, "DROP TABLE IF EXISTS note", "CREATE TABLE note (body text)")
    pool = make(town.dsn, 0, 1, driver=driver)
    with pool.connection() as conn:
        tell(conn, "INSERT INTO note VALUES ('kept')")
    with pytest.raises(driver.Error, match="division by zero"), pool.connection() as conn:
        tell(conn, "INSERT INTO note VALUES ('undone')", "SELECT 1/0")
    with pool.connection() as conn:
        assert ask(conn, "SELECT string_agg(body, ' ') FROM note") == "kept"


# ---- 18: pings double the latency, or there are dead connections -----------------------------------------------------


def test_pain_18_a_hot_path_asks_the_server_nothing(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    warm(pool)
    log = Log(town)
    for _ in range(200):
        pool.putconn(pool.getconn())
    assert log.statements() == []
    assert pool.stats().opened == 1


def test_pain_18_the_server_is_asked_once_after_ping_after(town, make, driver, leaping):
    pool = make(town.dsn, 0, 1, driver=driver)
    warm(pool)
    log = Log(town)
    for seconds, pings in ((1, 0), (59, 0), (61, 1), (1, 1)):
        leaping.leap(seconds)
        pool.putconn(pool.getconn())
        assert log.statements() == ["SELECT 1"] * pings


def test_pain_18_a_restart_that_no_ping_would_see_yet_is_seen_all_the_same(town, make, driver, alone):
    pool = make(town.dsn, 0, 1, driver=driver, ping_after=None, check_after=0)
    [old] = warm(pool)
    kill(town, [old])
    with pool.connection() as conn:
        assert pid_of(conn) != old
        assert ask(conn, "SELECT 1") == 1


def test_pain_18_what_the_server_says_by_the_way_costs_a_ping_and_no_connection(town, make, driver, alone):
    pool = make(town.dsn, 0, 1, driver=driver, ping_after=None, check_after=0)
    conn = pool.getconn()
    tell(conn, "LISTEN news")
    conn.commit()
    old = pid_of(conn)
    pool.putconn(conn)
    log = Log(town)
    order(town, "NOTIFY news")
    eventually(lambda: pool.putconn(pool.getconn()) or log.statements())
    assert set(log.statements()) == {"SELECT 1"}
    assert warm(pool) == [old]


# ---- 24: wrong rows after a time-out or a cancel ---------------------------------------------------------------------


@pytest.mark.fault(29)
def test_pain_24_a_connection_whose_answer_is_still_to_come_is_not_used_again(town, make):
    pool = make(town.dsn, 0, 1)
    with administrator(town) as other:
        tell(other, "SELECT pg_advisory_lock(24)")
        conn = pool.getconn()
        user = Caller(ask, conn, "SELECT 'the first user''s', pg_advisory_lock(24)")
        eventually(lambda: status(conn) == ACTIVE)
        old = pid_of(conn)
        pool.putconn(conn)
        with pytest.raises(psycopg2.Error):
            user.result()
        with pool.connection() as mine:
            assert pid_of(mine) != old
            assert ask(mine, "SELECT 'mine'") == "mine"


def test_pain_24_a_cancel_does_not_strike_the_next_user(town, make):
    pool = make(town.dsn, 0, 1)
    for turn in range(20):
        conn = pool.getconn()
        user = Caller(ask, conn, "SELECT pg_sleep(30)")
        eventually(lambda conn=conn: status(conn) == ACTIVE)
        # Not before the server runs the statement: a cancel that comes too soon is for nobody.
        with administrator(town) as other:
            seen = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid_of(conn)} AND state = 'active'"
            eventually(lambda other=other, seen=seen: ask(other, seen))
        conn.cancel()
        with pytest.raises(psycopg2.extensions.QueryCanceledError):
            user.result()
        pool.putconn(conn)
        with pool.connection() as mine:
            assert ask(mine, f"SELECT {turn}") == turn


@pytest.mark.fault(29)
@pytest.mark.parametrize("unread", ["COPY (SELECT 1) TO STDOUT", "two answers"])
def test_pain_24_an_unread_answer_is_not_the_next_users(town, make, unread):
    """Psycopg 3 in the midst of a COPY or a pipeline: the connection comes back busy."""
    psycopg = import_or_skip("psycopg")
    pool = make(town.dsn, 0, 1, driver=psycopg)
    conn = pool.getconn()
    old = pid_of(conn)
    if unread == "two answers":
        conn.pgconn.send_query(b"SELECT 'the first', 1; SELECT 'the second', 2")
    else:
        conn.pgconn.send_query(unread.encode())
    pool.putconn(conn)
    with pool.connection() as mine:
        assert pid_of(mine) != old
        assert ask(mine, "SELECT 'mine'") == "mine"


# ---- 32: RDS Proxy pins every session --------------------------------------------------------------------------------


def test_pain_32_a_clean_cycle_asks_nothing_but_what_the_user_asks(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver)
    warm(pool, 2)
    log = Log(town)
    put_all(pool, lease(pool, 2))
    assert log.statements() == []
    with pool.connection() as conn:
        assert ask(conn, "SELECT 6 * 7") == 42
    assert log.statements() == ["BEGIN", "SELECT 6 * 7", "COMMIT"]


def test_pain_32_no_cycle_asks_the_session_to_change(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    log = Log(town)
    for left in ("SELECT 1", "SELECT 1/0"):
        conn = pool.getconn()
        try:
            tell(conn, left)
        except driver.Error:
            pass
        conn = again(pool, conn)
        conn.autocommit = True
        pool.putconn(conn)
    assert log.statements().count("ROLLBACK") == 2
    words = {statement.split()[0] for statement in log.statements()}
    assert not words & {"SET", "RESET", "DISCARD", "DEALLOCATE"}, words
