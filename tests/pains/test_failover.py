"""Pains 7, 29, 30, 36: servers that change places, addresses and passwords, and those that are not there yet."""

from __future__ import annotations

import pytest
from asking import ask, tell
from servers import import_or_skip
from unit.threads import eventually

from dbpool import PersistentConnectionPool, PoolError, SimpleConnectionPool, ThreadedConnectionPool

from .sessions import MARGIN, Stopwatch, administrator, answers, backends, dsn_of, lease, order, pid_of, put_all, warm

psycopg2 = import_or_skip("psycopg2")
KINDS = [SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool]


# ---- 7: after a failover all writes fail -----------------------------------------------------------------------------


class Pair:
    """Two servers behind one name; the first can be demoted, and the name then leads to the second."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.now = first
        order(first, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
        eventually(lambda: not _is_read_only_by_now(first))
        for server in (first, second):
            order(server, "DROP TABLE IF EXISTS note", "CREATE TABLE note (body text)")

    def dsn(self):
        return self.now.dsn

    def demote(self, conns):
        """Make the first read-only, for the sessions of *conns* too."""
        order(self.first, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        for conn in conns:
            eventually(lambda conn=conn: _is_read_only(conn))

    def fail_over(self, conns):
        self.demote(conns)
        self.now = self.second


def _is_read_only_by_now(server):
    with administrator(server) as conn:
        return _is_read_only(conn)


def _is_read_only(conn):
    found = ask(conn, "SHOW transaction_read_only")
    conn.rollback()
    return found == "on"


@pytest.fixture
def pair(inn, other_inn):
    """Two servers, of which the second takes over."""
    yield Pair(inn, other_inn)
    Pair(inn, other_inn)  # as it was


def write(pool, driver, times):
    """Write so many rows, each in its turn; return the errors."""
    errors = []
    for _ in range(times):
        try:
            with pool.connection() as conn:
                tell(conn, "INSERT INTO note VALUES ('written')")
        except driver.Error as error:
            errors.append(error)
    return errors


@pytest.mark.fault(22)
def test_pain_07_one_write_fails_after_a_failover_and_the_rest_go_to_the_new_server(pair, make, driver):
    pool = make(tcp(pair), 0, 5, driver=driver)
    conns = lease(pool, 5)
    pair.fail_over(conns)
    put_all(pool, conns)
    [error] = write(pool, driver, 6)
    assert "read-only transaction" in str(error)
    assert pool.stats().discards["read-only"] == 1
    with administrator(pair.second) as conn:
        assert ask(conn, "SELECT count(*) FROM note") == 5


def tcp(pair):
    return lambda: pair.now.tcp_dsn


@pytest.mark.fault(22)
def test_pain_07_no_connection_that_is_out_fails_more_than_once(pair, make):
    pool = make(pair.dsn, 0, 3)
    blocks = [pool.connection() for _ in range(3)]
    conns = [block.__enter__() for block in blocks]
    pair.fail_over(conns)
    old = {pid_of(conn) for conn in conns}
    for block, conn in zip(blocks, conns):  # each leaves its block as its user does, with its own error
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction) as caught:
            tell(conn, "INSERT INTO note VALUES ('lost')")
        block.__exit__(caught.type, caught.value, None)
    assert write(pool, psycopg2, 6) == []
    assert not old & set(warm(pool, 3))


@pytest.mark.fault(22)
def test_pain_07_with_a_role_not_even_one_write_fails(pair, make, driver):
    pool = make(tcp(pair), 0, 5, driver=driver, role="read-write", ping_after=0)
    conns = lease(pool, 5)
    pair.fail_over(conns)
    put_all(pool, conns)
    assert write(pool, driver, 6) == []


def test_pain_07_a_role_is_asked_when_a_connection_is_opened(pair, make, driver):
    pair.demote([])
    eventually(lambda: _is_read_only_by_now(pair.first))
    pool = make(tcp(pair), 0, 2, driver=driver, role="read-write")
    with pytest.raises(PoolError) as caught:
        pool.getconn(timeout=0.3)
    assert "read-only" in str(caught.value) + str(caught.value.__cause__)
    pair.now = pair.second
    assert write(pool, driver, 1) == []


# ---- 29: the password changes ----------------------------------------------------------------------------------------


@pytest.fixture
def clerk(town):
    """A role whose password changes: `change()`, and its present `words`."""
    return Clerk(town)


class Clerk:
    """A role of the town, and the password that it has just now."""

    def __init__(self, town):
        self._town, self._number, self.asked = town, 0, 0
        order(town, "DROP ROLE IF EXISTS clerk", "CREATE ROLE clerk LOGIN")
        self.change()

    def change(self):
        self._number += 1
        order(self._town, f"ALTER ROLE clerk PASSWORD 'secret{self._number}'")

    def dsn(self):
        self.asked += 1
        return dsn_of(self._town, user="clerk", password=f"secret{self._number}")

    def keywords(self):
        return dict(word.split("=", 1) for word in self.dsn().split())


@pytest.mark.fault(19)
@pytest.mark.parametrize("form", ["dsn", "keywords"])
def test_pain_29_the_arguments_are_asked_for_at_each_connect(town, make, driver, clerk, form):
    pool = make(getattr(clerk, form), 0, 3, driver=driver)
    first = pool.getconn()
    clerk.change()
    second = pool.getconn()  # the old password would be refused
    assert ask(second, "SELECT current_user") == "clerk"
    assert ask(first, "SELECT 1") == 1  # what is open stays open
    assert clerk.asked == 2
    put_all(pool, [first, second])
    pool.putconn(pool.getconn())
    assert clerk.asked == 2  # and at connects only


def test_pain_29_the_old_password_really_is_refused(town, make, clerk):
    pool = make(clerk.dsn(), 0, 1)
    clerk.change()
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        pool.getconn()


def test_pain_29_drain_replaces_all_connections_gracefully(town, make, driver, clerk):
    pool = make(clerk.dsn, 0, 3, driver=driver)
    leased, idle = lease(pool, 2)
    old = {pid_of(leased), pid_of(idle)}
    pool.putconn(idle)
    clerk.change()
    pool.drain()
    assert idle.closed
    assert ask(leased, "SELECT 1") == 1  # not under its user
    pool.putconn(leased)
    assert leased.closed
    assert not old & set(warm(pool, 2))


# ---- 30: the database is down when the application starts ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_pain_30_eager_raises_the_drivers_error_and_leaks_nothing(town, driver, kind):
    order(town, "DROP ROLE IF EXISTS few", "CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    with pytest.raises(driver.OperationalError, match="too many connections") as caught:
        kind(5, 5, dsn_of(town, user="few", password="few"), connect=driver, application_name="leaky")
    assert type(caught.value).__module__.partition(".")[0] == driver.__name__
    eventually(lambda: not backends(town, "leaky"))


def test_pain_30_lazy_needs_no_server_until_it_is_used(town, address, make, driver):
    pool = make(address.dsn, 2, 2, driver=driver, start="lazy")
    with pytest.raises(driver.OperationalError):
        pool.getconn(timeout=0)
    address.point(town)
    with pool.connection() as conn:
        assert answers(conn)


def test_pain_30_background_opens_minconn_once_there_is_a_server(town, address, make):
    with Stopwatch() as watch:
        pool = make(address.dsn, 2, 2, start="background", idle_timeout=1)
    assert watch.seconds < MARGIN
    eventually(lambda: pool.stats().connect_errors)
    address.point(town)
    with pool.connection() as conn:
        assert answers(conn)
    eventually(lambda: pool.stats().idle == 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("sizes", "config", "error", "text"),
    [
        ((3, 1), {}, ValueError, "minconn must not be above maxconn"),
        ((0, 0), {}, ValueError, "maxconn"),
        ((-1, 1), {}, ValueError, "minconn"),
        ((1, 2), {"timout": 3}, TypeError, "unknown option: timout"),
        ((1, 2), {"timeout": -1}, ValueError, "timeout"),
        ((1, 2), {"timeout": float("nan")}, ValueError, "timeout"),
        ((1, 2), {"reset": "discard"}, ValueError, "reset"),
    ],
)
def test_pain_30_what_is_wrong_with_the_options_is_said_and_nothing_is_opened(town, kind, sizes, config, error, text):
    with pytest.raises(error, match=text):
        kind(*sizes, town.dsn, config=config, application_name="unwanted")
    assert not backends(town, "unwanted")


# ---- 36: it keeps connecting to the old address ----------------------------------------------------------------------


@pytest.mark.fault(15)
def test_pain_36_every_connect_finds_the_address_anew_and_drain_leaves_the_old_one(
    inn, other_inn, make, driver, address
):  # fmt: skip
    address.point(inn)
    pool = make(address.dsn, 1, 3, driver=driver, start="lazy")
    leased, idle = lease(pool, 2)
    pool.putconn(idle)
    assert ask(leased, "SHOW port") == str(inn.port)
    address.point(other_inn)
    conns = lease(pool, 2)
    assert [ask(conn, "SHOW port") for conn in conns] == [str(inn.port), str(other_inn.port)]  # one was healthy
    put_all(pool, conns)
    pool.drain()
    pool.putconn(leased)
    conns = lease(pool, 3)
    assert {ask(conn, "SHOW port") for conn in conns} == {str(other_inn.port)}
    put_all(pool, conns)
    eventually(lambda: not backends(inn))
