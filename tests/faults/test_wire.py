"""Rows 11 and 12: connections that are reset in the midst of a statement, or end in the midst of their startup."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from asking import ask, tell
from pains.sessions import NAME, Log, answers, kill, order, pid_of
from pains.test_lost import by_hand, in_a_block, through_connect
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

psycopg2 = import_or_skip("psycopg2")


# ---- 11: RST in mid-query --------------------------------------------------------------------------------------------


@pytest.mark.fault(11)
@pytest.mark.parametrize("way", [in_a_block, by_hand, through_connect])
def test_a_reset_in_a_statement_is_the_drivers_error_and_the_statement_is_not_repeated(
    town, through, make, through_driver, way
):  # fmt: skip
    order(town, "CREATE TABLE IF NOT EXISTS parcel (number integer)")
    proxy, dsn = through(town)
    pool = make(dsn, 0, 1, driver=through_driver)
    log, pids = Log(town), []

    def send(conn, pid):
        pids.append(pid)
        tell(conn, "INSERT INTO parcel SELECT 1 FROM pg_sleep(60)")

    def sent():
        return sum("INSERT INTO parcel" in statement for statement in log.statements())

    caller = Caller(way, pool, send)
    eventually(sent)
    proxy.reset()
    with pytest.raises(through_driver.Error) as caught:
        caller.result()
    assert isinstance(caught.value, (through_driver.OperationalError, through_driver.InterfaceError))
    with pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1
        assert pid_of(conn) not in pids
    assert pool.stats().discards == {"lost": 1}
    lease_all(pool)
    kill(town, pids)  # it had not noticed
    assert sent() == len(pids) == 1


# ---- 12: end of stream after byte n of the startup -------------------------------------------------------------------


def startup_of(proxy, dsn):
    """Return of how many bytes a startup consists."""
    with closing(psycopg2.connect(dsn, application_name=NAME)):
        [link] = proxy.links
    eventually(lambda: not proxy.links)
    return link.sent


@pytest.mark.fault(12)
def test_a_startup_that_ends_after_any_byte_is_a_clean_error(town, through, make):
    proxy, dsn = through(town)
    pool = make(dsn, 0, 2)
    pool.putconn(pool.getconn(), close=True)  # what it asks of a server once, it has asked
    eventually(lambda: not proxy.links)
    whole, descriptors = startup_of(proxy, dsn), len(os.listdir("/proc/self/fd"))
    assert whole > 400
    for proxy.limit in range(whole):
        with pytest.raises(psycopg2.OperationalError, match="closed the connection unexpectedly"):
            pool.getconn(timeout=0)
        assert pool.stats().size == 0
        eventually(lambda: len(os.listdir("/proc/self/fd")) == descriptors)
    assert pool.stats().connect_errors == whole
    proxy.limit = whole
    pool.putconn(pool.getconn(timeout=0), close=True)
    proxy.heal()
    lease_all(pool)
    assert adds_up(pool)


@pytest.mark.fault(12)
def test_who_waits_is_not_bothered_by_a_connection_that_ends_right_after_its_startup(town, through, make):
    proxy, dsn = through(town)
    proxy.limit = startup_of(proxy, dsn)
    pool = make(dsn, 0, 2, ping_on_connect=True)
    waiter = Caller(pool.getconn, timeout=20)
    eventually(lambda: pool.stats().connect_errors >= 2)
    proxy.heal()
    conn = waiter.result()
    assert answers(conn)
    pool.putconn(conn)
    assert adds_up(pool)
