"""Rows 13, 14, 16: lines that are slow, that are forgotten by what lies between, and hosts that are dead."""

from __future__ import annotations

import pytest
from asking import ask
from drivers.test_unreachable import deaf
from pains.sessions import Stopwatch, answers, dsn_of, lease, pid_of, put_all, warm
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import eventually

from dbpool import PoolTimeout

psycopg2 = import_or_skip("psycopg2")
LATE = 1.0  # seconds over a limit that a busy machine may cost; a limit that is not kept costs several


# ---- 13: latency, jitter, one-byte slices ----------------------------------------------------------------------------


@pytest.mark.fault(13)
def test_a_slow_line_that_is_cut_into_bytes_costs_nobody_his_connection(town, through, make, through_driver):
    proxy, dsn = through(town)
    proxy.delay, proxy.jitter, proxy.slice_to = 0.02, 0.03, 1
    pool = make(dsn, 2, 2, driver=through_driver, ping_after=0)  # opened by the constructor
    pids = warm(pool, 2)
    proxy.delay, proxy.jitter = 0.1, 0.1
    with Stopwatch() as watch, pool.connection() as conn:  # pinged first
        assert pid_of(conn) in pids
        assert ask(conn, "SELECT repeat('long', 500)") == "long" * 500
    assert watch.seconds >= 2 * 2 * 0.1
    assert pool.stats().discards == {}
    assert proxy.accepted == 2


@pytest.mark.fault(13)
@pytest.mark.parametrize(("check_timeout", "lost"), [(5.0, {}), (0.4, {"lost": 1})])
def test_a_line_of_a_second_is_too_slow_only_for_a_shorter_check_timeout(town, through, make, check_timeout, lost):
    proxy, dsn = through(town)
    pool = make(dsn, 0, 1, check_timeout=check_timeout)
    warm(pool)
    proxy.delay = 0.5  # each way
    pool.check()
    assert pool.stats().discards == lost


@pytest.mark.fault(13)
@pytest.mark.parametrize("before", ["a connect", "a ping and a connect"])
def test_on_a_line_slower_than_the_caller_is_patient_he_is_told_on_time(town, through, make, before):
    proxy, dsn = through(town)
    pool = make(dsn, 0, 2, ping_after=0)
    if before == "a ping and a connect":
        warm(pool)
    proxy.delay = 0.7
    with Stopwatch() as watch, pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.5)
    assert 0.5 <= watch.seconds < 0.5 + LATE
    proxy.heal()
    eventually(lambda: pool.stats().connecting == 0)
    assert pool.stats().idle == 1  # what was opened too late for him serves the next
    assert pool.stats().connect_errors == 0
    lease_all(pool)
    assert adds_up(pool)


# ---- 14: a NAT forgets idle flows ------------------------------------------------------------------------------------


def rest(proxy, seconds):
    """Let time pass on the line."""
    until = proxy.now() + seconds
    eventually(lambda: proxy.now() >= until)


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    ("options", "discards"),
    [({"ping_interval": 0.2}, {}), ({"idle_timeout": 0.2}, {"idle": 3})],
    ids=["ping_interval", "idle_timeout"],
)
def test_no_use_fails_if_connections_are_pinged_or_closed_before_they_are_forgotten(
    town, through, make, options, discards
):  # fmt: skip
    proxy, dsn = through(town)
    proxy.forgets_after = 1.2
    pool = make(dsn, 0, 3, ping_after=None, **options)  # nobody asks before it is handed out
    warm(pool, 3)
    rest(proxy, 2.6)
    conns = lease(pool, 3)
    assert all(map(answers, conns))
    assert pool.stats().discards == discards
    put_all(pool, conns)


@pytest.mark.fault(14)
def test_what_is_forgotten_is_found_out_before_it_is_handed_out(town, through, make, through_driver):
    proxy, dsn = through(town)
    pool = make(dsn, 0, 1, driver=through_driver, ping_after=0.3, check_timeout=0.4)
    warm(pool)
    proxy.forgets_after = 0.3
    rest(proxy, 0.7)
    with pool.connection() as conn:
        assert answers(conn)
    assert pool.stats().discards == {"lost": 1}


# ---- 16: the first host of many is dead ------------------------------------------------------------------------------


@pytest.mark.fault(16)
def test_a_dead_first_host_costs_its_part_of_the_time_and_no_caller_more_than_his_own(town, make):
    with deaf() as port:
        dsn = dsn_of(town, host="127.0.0.1,127.0.0.1", port=f"{port},{town.port}")
        pool = make(dsn, 0, 1, connect_timeout=4)  # 2 s for each
        with Stopwatch() as whole:
            with Stopwatch() as watch, pytest.raises(PoolTimeout):
                pool.getconn(timeout=0.5)
            with pool.connection() as conn:
                assert ask(conn, "SHOW port") == str(town.port)
        assert 0.5 <= watch.seconds < 0.5 + LATE
        assert whole.seconds < 2 + LATE
        assert pool.stats().connect_errors == 0
