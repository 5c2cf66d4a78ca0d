"""Rows 27 to 31: whatever a holder leaves behind in its session, the next one does not meet it."""

from __future__ import annotations

import io
import threading

import pytest
from asking import ask, tell
from drivers.conftest import name_socket_for_kingbase
from drivers.test_psycopg2 import TRACES
from pains.sessions import MARGIN, Stopwatch, administrator, answers, order, pid_of
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool import EndpointPool

IDLE, ACTIVE = 0, 1


def status(conn):
    """Return the transaction status, which the driver knows without asking."""
    return int(conn.info.transaction_status)


# ---- 27: open or failed transaction returned -------------------------------------------------------------------------

LEAVINGS = 10_000
WRITE = "INSERT INTO left_open VALUES (1) RETURNING (SELECT count(*) FROM left_open)"  # how many were there before


@pytest.mark.fault(27)
def test_of_10_000_open_or_failed_transactions_the_next_holder_meets_none(inn, make, driver):
    order(inn, "DROP TABLE IF EXISTS left_open", "CREATE UNLOGGED TABLE left_open (a int)")
    pool = make(inn.dsn, 0, 2, driver=driver, timeout=60)
    met = []

    def leave(number):
        for turn in range(number, LEAVINGS, 4):
            conn = pool.getconn()
            before = status(conn), ask(conn, WRITE)
            if before != (IDLE, 0):
                met.append(before)
            if turn % 8 >= 4:
                try:
                    tell(conn, "SELECT 1/0")
                except driver.Error:
                    pass
            pool.putconn(conn)

    for caller in [Caller(leave, number) for number in range(4)]:
        caller.result(100)
    assert met == []
    stats = pool.stats()
    assert (stats.leases, stats.discards) == (LEAVINGS, {}), "some were closed and not made clean"


# ---- 28: session state left behind -----------------------------------------------------------------------------------


def left_of(pool, leave, is_there):
    """Tell whether the next holder of the same connection finds what *leave* has left."""
    conn = pool.getconn()
    tell(conn, leave)
    conn.commit()
    assert ask(conn, is_there), "it left no trace to begin with"
    conn.commit()
    pool.putconn(conn)
    found = pool.getconn()
    assert found is conn, "it was closed instead"
    try:
        return bool(ask(found, is_there))
    finally:
        pool.putconn(found)


@pytest.mark.fault(28)
def test_of_12_items_session_leaves_none(town, make, driver):
    assert len(TRACES) == 12
    pool = make(town.dsn, 0, 1, driver=driver, reset="session")
    assert [name for name, (leave, is_there) in TRACES.items() if left_of(pool, leave, is_there)] == []


@pytest.mark.fault(28)
@pytest.mark.parametrize("reset", ["none", "rollback", "clean"])
def test_the_other_levels_are_cheaper_and_leave_them_all(town, make, driver, reset):
    """They are named for what they do: so none of them may be taken for one that forgets the session."""
    left = []
    for name, (leave, is_there) in TRACES.items():
        pool = make(town.dsn, 0, 1, driver=driver, reset=reset)
        if left_of(pool, leave, is_there):
            left.append(name)
        pool.close()
    assert left == list(TRACES)


@pytest.mark.fault(28)
def test_what_psycopg_3_has_prepared_by_itself_is_not_missed_after_session(town, make):
    pool = make(town.dsn, 0, 1, driver=import_or_skip("psycopg"), reset="session")
    first = None
    for number in range(20):  # it prepares what was run five times
        with pool.connection() as conn:
            first = first or conn
            for _ in range(4):
                assert conn.execute("SELECT %s::int + 1", (number,)).fetchone() == (number + 1,)
    assert conn is first


# ---- 29: COPY, pipeline or asynchronous query unfinished -------------------------------------------------------------


# Each returns what must be kept: dropped, it would end by itself.


def copy_out(conn):
    copy = conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    return copy, copy.__enter__()


def copy_in(conn):
    conn.execute("CREATE TEMP TABLE mine (a int)")
    copy = conn.cursor().copy("COPY mine FROM STDIN")
    return copy, copy.__enter__().write(b"1\n")


def pipeline(conn):
    pipeline = conn.pipeline()
    return pipeline, pipeline.__enter__(), conn.execute("SELECT 1")


def pipeline_not_used(conn):
    """The transaction status is idle all the same."""
    pipeline = conn.pipeline()
    pipeline.__enter__()
    assert status(conn) == IDLE
    return pipeline


def query(conn):
    conn.pgconn.send_query(b"SELECT pg_advisory_lock(29)")


def in_a_thread(statement):
    """Have another thread run it, as psycopg2 waits for its answers."""

    def run(conn):
        def work():
            with conn.cursor() as cursor:
                if statement.startswith("COPY"):
                    cursor.copy_expert(statement, io.StringIO())
                else:
                    cursor.execute(statement)

        conn_user = Caller(work)
        eventually(lambda: status(conn) == ACTIVE)
        return conn_user

    return run


UNFINISHED = {
    "COPY out": ("psycopg", copy_out),
    "COPY in": ("psycopg", copy_in),
    "a pipeline": ("psycopg", pipeline),
    "a pipeline not used": ("psycopg", pipeline_not_used),
    "a query": ("psycopg", query),
    "a query of psycopg2's": ("psycopg2", in_a_thread("SELECT pg_advisory_lock(29)")),
    "a query of ksycopg2's": ("ksycopg2", in_a_thread("SELECT pg_advisory_lock(29)")),
    "COPY out of psycopg2's": ("psycopg2", in_a_thread("COPY (SELECT pg_advisory_lock(29)) TO STDOUT")),
}


@pytest.mark.fault(29)
@pytest.mark.parametrize("case", UNFINISHED)
def test_what_is_unfinished_is_closed_and_replaced_within_one_connect(town, make, case):
    name, leave = UNFINISHED[case]
    driver = import_or_skip(name)
    pool = make(town.dsn, 0, 1, driver=driver, timeout=60)
    with Stopwatch() as one_connect:
        conn = pool.getconn()
    with administrator(town) as other:
        tell(other, "SELECT pg_advisory_lock(29)")  # whoever else wants it waits until this block ends
        old = pid_of(conn)
        user = leave(conn)
        waiter = Caller(pool.getconn)
        eventually(lambda: pool.stats().waiting)
        with Stopwatch() as watch:
            pool.putconn(conn)
            again = waiter.result()
        if isinstance(user, Caller):
            with pytest.raises(driver.Error):
                user.result()
    assert conn.closed
    assert pid_of(again) != old
    assert answers(again)
    assert watch.seconds < one_connect.seconds + MARGIN
    pool.putconn(again)
    assert sum(pool.stats().discards.values()) == 1


# ---- 30: attributes of the connection changed ------------------------------------------------------------------------

TWENTY_NOTICES = "DO $$ BEGIN FOR i IN 1..20 LOOP RAISE NOTICE 'heard'; END LOOP; END $$"


@pytest.mark.fault(30)
@pytest.mark.parametrize("driver", ["psycopg2", "ksycopg2"], indirect=True)
def test_notices_do_not_grow_from_holder_to_holder(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver)
    kept = []
    for _ in range(50):
        with pool.connection() as conn:
            tell(conn, TWENTY_NOTICES)
            kept.append(len(conn.notices))
    assert kept[0] >= 20
    assert max(kept) <= 50  # what the driver itself keeps
    assert pool.stats().opened == 1


# ---- 31: role changed, tenants mixed ---------------------------------------------------------------------------------

WHO = "SELECT session_user || ' ' || current_user || ' ' || current_setting('search_path')"


@pytest.mark.fault(31)
@pytest.mark.parametrize("disguise", ["SET SESSION AUTHORIZATION baker", "SET ROLE baker", "SET search_path = baker"])
@pytest.mark.parametrize("left_open", [False, True], ids=["committed", "in a transaction"])
def test_an_identity_taken_on_does_not_outlast_its_holder(town, make, driver, disguise, left_open):
    order(town, "DROP ROLE IF EXISTS baker", "CREATE ROLE baker")
    pool = make(town.dsn, 0, 1, driver=driver, reset="session")
    conn = pool.getconn()
    before = ask(conn, WHO)
    conn.rollback()
    tell(conn, disguise)
    assert ask(conn, WHO) != before
    if not left_open:
        conn.commit()
    pool.putconn(conn)
    with pool.connection() as again:
        assert again is conn
        assert ask(again, WHO) == before


@pytest.mark.fault(31)
def test_pools_of_two_tenants_under_the_same_keys_never_mix(town, make, driver):
    """User and options belong to the pool, and a key to one pool only."""
    tenants = ("baker", "miller")
    for tenant in tenants:
        order(town, f"DROP ROLE IF EXISTS {tenant}", f"CREATE ROLE {tenant} LOGIN")
    pools = {}
    for tenant in tenants:
        dsn = town.dsn.replace("user=postgres", f"user={tenant}") + f" options='-c search_path={tenant}'"
        pools[tenant] = make(dsn, 0, 2, driver=driver, timeout=60, name=tenant)
    mixed, together = [], threading.Barrier(4)

    def work(number):
        together.wait(20)
        for turn in range(50):
            tenant = tenants[(number + turn) % 2]
            with pools[tenant].connection(f"key {turn % 3} {number % 2}") as conn:
                if ask(conn, WHO) != f"{tenant} {tenant} {tenant}":
                    mixed.append(tenant)

    for caller in [Caller(work, number) for number in range(4)]:
        caller.result(60)
    assert mixed == []
    with administrator(town) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE application_name <> ''")
        seen = {user for name, user in cursor.fetchall() if name in tenants and user != name}
    assert seen == set()


@pytest.mark.fault(31)
def test_endpoints_of_two_tenants_never_mix_whatever_their_holders_leave_behind(town, make, driver):
    """Two users are two endpoints; with reset="session" each holder finds a session as if it were new."""
    tenants = ("baker", "miller")
    for tenant in tenants:
        order(town, f"DROP ROLE IF EXISTS {tenant}", f"CREATE ROLE {tenant} SUPERUSER LOGIN")
    dsns = {
        tenant: town.dsn.replace("user=postgres", f"user={tenant}") + f" options='-c search_path={tenant}'"
        for tenant in tenants
    }
    if driver.__name__ == "ksycopg2":
        name_socket_for_kingbase(town.dsn)
    config = {"reset": "session", "timeout": 60, "detect_deadlock": False}
    mixed = []
    with EndpointPool(0, 2, connect=driver, endpoints=dsns, total=2, config=config) as pool:

        def work(number):
            for turn in range(30):
                tenant, other = tenants[(number + turn) % 2], tenants[(number + turn + 1) % 2]
                with pool.connection(tenant) as conn:
                    if ask(conn, WHO) != f"{tenant} {tenant} {tenant}":
                        mixed.append(tenant)
                    tell(conn, f"SET {('ROLE', 'SESSION AUTHORIZATION')[turn % 2]} {other}")
                    tell(conn, f"SET search_path = {other}")

        for caller in [Caller(work, number) for number in range(4)]:
            caller.result(60)
        assert mixed == []
        assert pool.total.used <= 2
        for tenant in tenants:
            with pool.connection(tenant) as conn:
                assert ask(conn, WHO) == f"{tenant} {tenant} {tenant}"
