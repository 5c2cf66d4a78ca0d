"""Rows 32 to 34: who waits is served in turn, expires without harm, and is not stranded by another's failure."""

from __future__ import annotations

import os
import threading
import time
from random import SystemRandom

import pytest
from fakes import FakeConnector, FakeDriver, OperationalError
from schedules import exploring
from schedules.programs import SMALL, Run
from unit.checks import lease_all
from unit.threads import Caller, eventually

from dbpool import ThreadedConnectionPool

from .turns import Turns, mean, p99

# ---- 32: contention --------------------------------------------------------------------------------------------------


def pool_of(driver, maxconn, **options):
    """Return a pool over fakes, whose only threads may wait."""
    config = {"timeout": 60, "detect_deadlock": False, **options}
    return ThreadedConnectionPool(0, maxconn, connect=FakeConnector(driver.connect), config=config)


@pytest.mark.fault(32)
def test_500_threads_on_10_connections_are_served_in_turn_and_wait_alike():
    pool, over, had = pool_of(FakeDriver(), 10), [], [0] * 500
    turns, everybody = Turns(pool), threading.Barrier(501)

    def work(number):
        everybody.wait(60)
        while not over:
            with pool.connection():
                time.sleep(0.005)  # what is done with it
            had[number] += 1

    callers = [Caller(work, number) for number in range(500)]
    everybody.wait(60)
    eventually(lambda: min(had) >= 1)  # all are in line by now
    first, before = turns.mark()
    eventually(lambda: len(turns.turns) >= first + 2_000)
    last, after = turns.mark()
    over.append(True)
    for caller in callers:
        caller.result(60)
    assert turns.inversions == 0
    assert after == before, "somebody passed those who waited"
    seen = turns.turns[first:last]
    for wait in ([turn.others for turn in seen], [turn.seconds for turn in seen]):
        assert p99(wait) / mean(wait) <= 2
    lease_all(pool)
    pool.close()


@pytest.mark.fault(32)
def test_one_waiter_has_its_turn_between_two_hogs():
    pool, over = pool_of(FakeDriver(), 1), []
    turns = Turns(pool)

    def hog():
        while not over:
            pool.putconn(pool.getconn())

    hogs = [Caller(hog) for _ in range(2)]
    eventually(lambda: len(turns.turns) > 10)
    for _ in range(300):
        pool.putconn(pool.getconn())
    over.append(True)
    for caller in hogs:
        caller.result()
    mine = [turn for turn in turns.turns if turn.ident == threading.get_ident()]
    assert len(mine) > 100, "nobody was in its way"
    assert turns.inversions == 0
    assert max(turn.others for turn in mine) <= 2
    pool.close()


# ---- 33: waiter expires as the hand-over happens ---------------------------------------------------------------------

NIGHT = os.environ.get("DBPOOL_NIGHTLY") == "1"
SCHEDULES = 100_000 if NIGHT else 1_500


@pytest.mark.fault(33)
@pytest.mark.schedules
@pytest.mark.timeout(1800 if NIGHT else 120)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", exploring.STRATEGIES)
def test_who_expires_as_the_hand_over_happens_takes_nothing_along(kind, monkeypatch):
    """At one moment the first thread puts, the second runs out of time, and the third waits behind it, for ever."""
    outcomes = {True: 0, False: 0}

    class Counting(Run):
        def lease(self, timeout, key=None):
            conn = super().lease(timeout, key)
            if timeout is not None:
                outcomes[conn is not None] += 1
            return conn

    monkeypatch.setattr(exploring, "Run", Counting)
    first = SystemRandom().randrange(10**9)
    figures = exploring.explore(kind, float("inf"), first, ("expiry", SMALL["expiry"]), SCHEDULES // 2)
    print(f"\nfrom seed {first}, {figures}; served and expired: {outcomes}")
    assert figures.schedules == SCHEDULES // 2
    assert min(outcomes.values()) > figures.schedules / 50, "the two moments never met"


# ---- 34: connect fails while others wait -----------------------------------------------------------------------------


@pytest.mark.fault(34)
@pytest.mark.parametrize("maxconn", [1, 3])
@pytest.mark.parametrize("waiters", [1, 3, 8])
@pytest.mark.parametrize("failures", [1, 3, 8, 11])
def test_each_failed_connect_fails_one_waiter_and_strands_none(maxconn, waiters, failures):
    driver = FakeDriver(fail_on=set(range(1, failures + 1)))
    driver.gate.clear()
    pool = pool_of(driver, maxconn)
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(waiters)]
    eventually(lambda: pool.stats().waiting == waiters and driver.calls == min(maxconn, waiters))
    driver.gate.set()
    eventually(lambda: all(caller.ended for caller in callers))
    errors = [caller.error for caller in callers if caller.error is not None]
    assert all(isinstance(error, OperationalError) for error in errors)
    assert len({id(error) for error in errors}) == len({str(error) for error in errors}) == len(errors)
    assert len(errors) <= min(waiters, failures)  # who is served meanwhile is not told
    assert maxconn > 1 or len(errors) == min(waiters, failures)
    driver.fail_on.clear()
    lease_all(pool)
    pool.close()


@pytest.mark.fault(34)
@pytest.mark.parametrize("waiters", [1, 3, 8])
@pytest.mark.parametrize("refusal", ["transient", "permanent"])
def test_a_server_that_refuses_strands_nobody_either(waiters, refusal):
    """For the moment: all wait on and are served. For good: each is told, by an error of its own."""
    driver = FakeDriver()
    driver.refusal = refusal
    driver.gate.clear()
    pool = pool_of(driver, 2)
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(waiters)]
    eventually(lambda: pool.stats().waiting == waiters)
    driver.gate.set()
    if refusal == "transient":
        eventually(lambda: pool.stats().connect_errors >= 2)
        driver.refusal = None
    eventually(lambda: all(caller.ended for caller in callers))
    errors = [caller.error for caller in callers if caller.error is not None]
    assert len(errors) == len({id(error) for error in errors}) == (0 if refusal == "transient" else waiters)
    driver.refusal = None
    lease_all(pool)
    pool.close()
