"""Row 22: a standby takes over, and connections are open to a primary that is none any more."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from asking import ask, tell
from clusters import new_cluster, new_standby
from pains.sessions import Stopwatch, administrator, backends, dsn_of, lease, order, pid_of, put_all, warm
from servers import import_or_skip
from unit.checks import lease_all
from unit.threads import Caller, eventually

psycopg2 = import_or_skip("psycopg2")
pytestmark = pytest.mark.fault(22)
LATE = 1.0  # seconds over a limit that a busy machine may cost
DEMOTE = ("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")


class Pair:
    """A primary and its hot standby, behind one name: `now` is where it leads."""

    def __init__(self, primary, standby):
        self.primary, self.standby = primary, standby
        self.now = primary
        order(primary, "CREATE TABLE note (body text)")
        with administrator(standby) as conn:
            eventually(lambda: ask(conn, "SELECT count(*) FROM pg_class WHERE relname = 'note'"))

    def name(self):
        return self.now.tcp_dsn

    def hosts(self):
        """Return the DSN of both, the primary first."""
        ports = f"{self.primary.port},{self.standby.port}"
        return dsn_of(self.primary, host="127.0.0.1,127.0.0.1", port=ports)

    def fail_over(self):
        """The standby takes over; the primary stays, and takes no more writes."""
        order(self.primary, *DEMOTE)
        eventually(lambda: _is_read_only(self.primary))  # all sessions were told before the next one began
        self.standby.promote()
        self.now = self.standby


def _is_read_only(server):
    with administrator(server) as conn:
        return ask(conn, "SHOW transaction_read_only") == "on"


@contextmanager
def paired(installation):
    with new_cluster(installation) as primary, new_standby(primary.start()) as standby:
        yield Pair(primary, standby.start())


@pytest.fixture
def pair(installation):
    """A primary and its standby, which the test may promote."""
    with paired(installation) as pair:
        yield pair


@pytest.fixture(scope="module")
def lasting_pair(installation):
    """A primary and its standby, which stays one."""
    with paired(installation) as pair:
        yield pair


def write(pool):
    """Write in a transaction of its own; return the server's port."""
    with pool.connection() as conn:
        tell(conn, "INSERT INTO note VALUES ('written')")
        return ask(conn, "SHOW port")


def test_who_waits_while_a_standby_is_promoted_writes_to_it_and_nobody_fails(pair, make):
    pool = make(pair.hosts(), 0, 3, role="read-write", timeout=30)
    assert {write(pool) for _ in range(3)} == {str(pair.primary.port)}
    warm(pool, 3)
    pair.primary.stop("fast")
    callers = [Caller(write, pool) for _ in range(5)]
    eventually(lambda: pool.stats().waiting and pool.stats().connect_errors)  # a standby is not what they want
    assert not any(caller.ended for caller in callers)
    pair.standby.promote()
    with Stopwatch() as watch:
        assert [caller.result() for caller in callers] == [str(pair.standby.port)] * 5
    assert watch.seconds < 1 + LATE
    with administrator(pair.standby) as conn:
        assert ask(conn, "SELECT count(*) FROM note") == 3 + 5


def test_after_one_25006_of_a_standby_nobody_is_handed_another_connection_to_it(lasting_pair, make, driver):
    pair = lasting_pair
    pool = make(pair.name, 0, 4, driver=driver)
    pair.now = pair.standby
    warm(pool, 4)
    pair.now = pair.primary
    with pytest.raises(driver.Error, match="read-only transaction"):
        write(pool)
    assert {write(pool) for _ in range(4)} == {str(pair.primary.port)}
    conns = lease(pool, 4)
    assert {ask(conn, "SHOW port") for conn in conns} == {str(pair.primary.port)}
    put_all(pool, conns)
    eventually(lambda: not backends(pair.standby))


def test_one_check_of_the_role_leaves_a_demoted_primary(pair, make):
    pool = make(pair.name, 0, 4, role="read-write")
    leased, *idle = lease(pool, 4)
    put_all(pool, idle)
    pair.fail_over()
    pool.check()
    eventually(lambda: backends(pair.primary) == {pid_of(leased)})
    assert {write(pool) for _ in range(3)} == {str(pair.standby.port)}
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):  # leased before: its holder is told, and nobody else
        tell(leased, "INSERT INTO note VALUES ('lost')")
    pool.putconn(leased)
    pool.check()
    assert {write(pool) for _ in range(4)} == {str(pair.standby.port)}
    eventually(lambda: not backends(pair.primary))


def test_one_drain_leaves_a_demoted_primary(pair, make):
    pool = make(pair.name, 2, 4)
    leased, *idle = lease(pool, 4)
    put_all(pool, idle)
    pair.fail_over()
    pool.drain()
    eventually(lambda: backends(pair.primary) == {pid_of(leased)})
    assert ask(leased, "SHOW port") == str(pair.primary.port)  # not under its holder
    pool.putconn(leased)
    eventually(lambda: not backends(pair.primary))
    assert {ask(conn, "SHOW port") for conn in lease_all(pool)} == {str(pair.standby.port)}
