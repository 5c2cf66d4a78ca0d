"""Rows 18 to 21 and 23: servers that are full, starting, or want nobody like us; and sessions that they end."""

from __future__ import annotations

import time

import pytest
from asking import ask, tell
from pains.sessions import (
    Log,
    Stopwatch,
    administrator,
    answers,
    backends,
    dsn_of,
    is_gone,
    kill,
    lease,
    order,
    pid_of,
    put_all,
    warm,
)
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, Peak, eventually

from dbpool import PoolTimeout

psycopg2 = import_or_skip("psycopg2")
LATE = 1.0  # seconds over a limit that a busy machine may cost; a limit that is not kept costs several
WAIT = 1.2  # seconds; the pauses are 0.05 to 0.75 s, or down to half of that
MOST = 10  # attempts that fit in


class Attempts(Peak):
    """Counts attempts to connect, and how many there are at a time."""

    def __init__(self, connect):
        super().__init__()
        self._connect = connect
        self.count = 0

    def __call__(self, *args, **kwargs):
        with self:
            self.count += 1
            return self._connect(*args, **kwargs)


@pytest.fixture
def attempts(monkeypatch):
    """Counts psycopg2's attempts from now on."""
    counted = Attempts(psycopg2.connect)
    monkeypatch.setattr(psycopg2, "connect", counted)
    return counted


def wait_in_vain(pool, reason, callers=6, seconds=WAIT):
    """Have so many wait at a time: each is told in time, and why."""

    def wait():
        with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=seconds)
        assert seconds <= watch.seconds < seconds + LATE
        assert reason in str(caught.value.__cause__)

    for caller in [Caller(wait) for _ in range(callers)]:
        caller.result()


def told_at_once(pool, error, reason, callers=4):
    """Have so many wait, who have a minute: each is told at once, and why."""
    for caller in [Caller(pool.getconn, timeout=60) for _ in range(callers)]:
        with pytest.raises(error, match=reason):
            caller.result()
    eventually(lambda: pool.stats().size == 0)


class Role:
    """A role of the test's own in the town, with a password that changes."""

    def __init__(self, town):
        self._town = town
        self._told = self._password = "first"
        order(town, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 'first'")

    def alter(self, how):
        order(self._town, f"ALTER ROLE guest {how}")

    def rotate(self):
        """Change the password, and do not tell the program yet."""
        self._password += "x"
        self.alter(f"PASSWORD '{self._password}'")

    def tell(self):
        self._told = self._password

    def dsn(self):
        return dsn_of(self._town, user="guest", password=self._told)


@pytest.fixture
def guest(town):
    """A role that nobody else uses."""
    return Role(town)


# ---- 18: too many connections (53300) --------------------------------------------------------------------------------


@pytest.mark.fault(18)
def test_a_full_server_is_asked_by_one_at_a_time_and_nobody_fails_early(town, make, guest, attempts):
    guest.alter("CONNECTION LIMIT 2")
    pool = make(guest.dsn(), 0, 8)
    conns = lease(pool, 2)
    wait_in_vain(pool, "too many connections", callers=1, seconds=0.2)  # the first attempt tells that it is full
    before, attempts.most = attempts.count, 0
    wait_in_vain(pool, "too many connections")
    assert 1 <= attempts.count - before <= MOST
    assert attempts.most == 1
    callers = [Caller(pool.getconn) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    put_all(pool, conns)
    assert {id(caller.result()) for caller in callers} == set(map(id, conns))  # served by what is open
    guest.alter("CONNECTION LIMIT -1")
    conns.append(pool.getconn())
    assert answers(conns[-1])
    put_all(pool, conns)


# ---- 19: the password is rotated (28P01) -----------------------------------------------------------------------------


@pytest.mark.fault(19)
def test_a_rotated_password_leaves_open_connections_alone_and_locks_nobody_out(town, make, guest, attempts):
    pool = make(guest.dsn, 0, 8)
    conn = pool.getconn()
    guest.rotate()
    wait_in_vain(pool, "password authentication failed", callers=1, seconds=0.2)
    before, attempts.most = attempts.count, 0
    wait_in_vain(pool, "password authentication failed")
    assert 1 <= attempts.count - before <= MOST
    assert attempts.most == 1
    assert ask(conn, "SELECT current_user") == "guest"
    waiter = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    guest.tell()
    put_all(pool, [conn, waiter.result()])
    lease_all(pool)


@pytest.mark.fault(19)
def test_nobody_is_locked_out_by_a_pool_that_tries_to_have_minconn(town, make, guest, attempts):
    pool = make(guest.dsn, 3, 3, idle_timeout=1)  # looks after itself 20 times a second
    guest.rotate()
    kill(town, backends(town))
    eventually(lambda: pool.stats().idle == 0 and pool.stats().connect_errors)
    before, until = attempts.count, time.monotonic() + WAIT
    eventually(lambda: time.monotonic() >= until)
    assert 1 <= attempts.count - before <= MOST
    guest.tell()
    eventually(lambda: pool.stats().idle == 3)


# ---- 20: a permanent refusal (3D000, 28000) --------------------------------------------------------------------------


@pytest.mark.fault(20)
def test_who_waits_for_a_database_that_was_dropped_is_told_at_once(town, make, driver):
    order(town, "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop")
    pool = make(dsn_of(town, dbname="shop"), 0, 4, driver=driver)
    warm(pool, 4)
    order(town, "DROP DATABASE shop WITH (FORCE)")
    told_at_once(pool, driver.OperationalError, 'database "shop" does not exist')
    order(town, "CREATE DATABASE shop")
    lease_all(pool)
    assert adds_up(pool)


@pytest.fixture
def barred(town, guest):
    """A role that the town's pg_hba.conf rejects; `barred()` ends that."""
    rules = town.data / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")

    def write(text):
        rules.write_text(text, encoding="utf-8")
        order(town, "SELECT pg_reload_conf()")
        eventually(lambda: _loaded(town) == (text != before))

    write(f"host all guest all reject\n{before}")
    yield lambda: write(before)
    write(before)


def _loaded(town):
    with administrator(town) as conn:
        return ask(conn, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject'")


@pytest.mark.fault(20)
def test_who_is_rejected_by_a_rule_of_the_server_is_told_at_once(make, driver, guest, barred):
    pool = make(guest.dsn(), 0, 4, driver=driver)
    told_at_once(pool, driver.OperationalError, "pg_hba.conf rejects connection")
    barred()
    lease_all(pool)


@pytest.mark.fault(20)
@pytest.mark.parametrize("how", ["NOLOGIN", "no privilege"])
def test_who_may_not_connect_is_told_at_once(town, make, guest, how):
    order(town, "DROP DATABASE IF EXISTS closet", "CREATE DATABASE closet")
    if how == "NOLOGIN":
        guest.alter("NOLOGIN")
    else:
        order(town, "REVOKE CONNECT ON DATABASE closet FROM public")
    pool = make(f"{guest.dsn()} dbname=closet", 0, 4)
    told_at_once(pool, psycopg2.OperationalError, "not permitted to log in|permission denied for database")


# ---- 21: starting, recovering (57P03) --------------------------------------------------------------------------------


@pytest.fixture
def recovering(cluster):
    """A server that was killed, and recovers for as long as the test wants: until `recovering.let_in()`."""
    return Recovering(cluster())


class Recovering:
    """A server that replays what it was doing, and waits for more until it is told that there is none."""

    def __init__(self, server):
        self.server = server
        self._archive = server.data.parent / "no more"
        self._start = None

    def crash(self):
        """Kill it, and start it again; return once it refuses because it is starting."""
        self.server.kill()
        (self.server.data / "recovery.signal").touch()
        self.server.installation._own(self.server.data / "recovery.signal")
        wait = f"while [ ! -e '{self._archive}' ]; do sleep 0.02; done; false"
        self.server.settings["restore_command"] = wait
        self._start = Caller(self.server.start)
        eventually(self._refuses)

    def _refuses(self):
        try:
            psycopg2.connect(self.server.dsn).close()
        except psycopg2.OperationalError as error:
            return "the database system is" in str(error)
        raise AssertionError("it lets in")

    def let_in(self):
        """Have it recover, and let everybody in."""
        self._archive.touch()
        self._start.result(60)


@pytest.mark.fault(21)
def test_a_server_that_recovers_is_waited_for_by_one_attempt_at_a_time(recovering, make, attempts):
    pool = make(recovering.server.dsn, 0, 4)
    with pool.connection() as conn:
        tell(conn, "SET LOCAL synchronous_commit = on")  # it is to outlive the crash
        tell(conn, "CREATE TABLE note (body text)", "INSERT INTO note SELECT 'kept' FROM generate_series(1, 1000)")
    warm(pool, 4)
    recovering.crash()
    wait_in_vain(pool, "the database system is", callers=1, seconds=0.2)
    before, attempts.most = attempts.count, 0
    wait_in_vain(pool, "the database system is")
    assert 1 <= attempts.count - before <= MOST
    assert attempts.most == 1
    callers = [Caller(lambda: _count(pool)) for _ in range(4)]
    eventually(lambda: pool.stats().waiting == 4)
    recovering.let_in()
    with Stopwatch() as watch:
        assert [caller.result() for caller in callers] == [1000] * 4
    assert watch.seconds < 1 + LATE
    lease_all(pool)


def _count(pool):
    with pool.connection() as conn:
        return ask(conn, "SELECT count(*) FROM note")


# ---- 23: sessions and statements that the server ends (57P05, 25P03, 57014) ------------------------------------------


@pytest.mark.fault(23)
@pytest.mark.parametrize("by", ["statement_timeout", "an administrator"])
def test_a_cancelled_statement_costs_no_connection(town, make, driver, by):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    pid = pid_of(conn)
    if by == "statement_timeout":
        tell(conn, "SET LOCAL statement_timeout = '50ms'")
        caller = Caller(ask, conn, "SELECT pg_sleep(60)")
    else:
        caller = Caller(ask, conn, "SELECT pg_sleep(60)")
        eventually(lambda: _cancelled(town, pid))
    with pytest.raises(driver.Error) as caught:
        caller.result()
    assert state_of(caught.value) == "57014"
    pool.putconn(conn)
    assert warm(pool) == [pid]
    assert pool.stats().discards == {}


def _cancelled(town, pid):
    with administrator(town) as conn:
        asleep = f"wait_event = 'PgSleep' AND pid = {pid}"
        return ask(conn, f"SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE {asleep}")


def state_of(error):
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or getattr(error, "kbcode", None)


@pytest.mark.fault(23)
def test_sessions_that_the_server_ends_because_they_are_idle_are_not_handed_out(town, make, driver, guest):
    guest.alter("SET idle_session_timeout = '200ms'")
    pool = make(guest.dsn(), 0, 3, driver=driver)
    pids = warm(pool, 3)
    eventually(lambda: all(map(is_gone, pids)))
    conns = lease(pool, 3)
    assert all(map(answers, conns))
    assert pool.stats().discards == {"lost": 3}
    put_all(pool, conns)


@pytest.mark.fault(23)
def test_a_session_that_the_server_ends_in_an_idle_transaction_is_replaced(town, make, driver, guest):
    guest.alter("SET idle_in_transaction_session_timeout = '200ms'")
    pool = make(guest.dsn(), 0, 1, driver=driver)
    conn = pool.getconn()
    tell(conn, "SELECT 1")
    eventually(lambda: is_gone(pid_of(conn)))
    with pytest.raises((driver.OperationalError, driver.InterfaceError, driver.InternalError)) as caught:
        tell(conn, "SELECT 1")
    assert state_of(caught.value) in ("25P03", None)
    pool.putconn(conn)
    with pool.connection() as other:
        assert answers(other)
        assert other is not conn
    assert sum(pool.stats().discards.values()) == 1


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("options", "told"),
    [({}, True), ({"idle_timeout": None}, True), ({"idle_timeout": 30}, False), ({"ping_interval": 30}, False)],
    ids=str,
)
def test_a_limit_of_the_servers_that_is_shorter_than_the_pools_is_told_once(make, driver, guest, caplog, options, told):
    guest.alter("SET idle_session_timeout = '60s'")
    pool = make(guest.dsn(), 2, 3, driver=driver, **options)
    lease_all(pool)
    assert caplog.text.count("idle for 60 s (idle_session_timeout)") == told


@pytest.mark.fault(23)
def test_a_server_that_ends_no_idle_sessions_is_asked_once_and_nothing_is_told(town, make, caplog):
    log = Log(town)
    lease_all(make(town.dsn, 0, 3))
    assert len([statement for statement in log.statements() if "idle_session_timeout" in statement]) == 1
    lease_all(make(town.dsn, 0, 3, idle_timeout=0))  # it keeps none
    assert len(log.statements()) == 1
    assert caplog.text == ""
