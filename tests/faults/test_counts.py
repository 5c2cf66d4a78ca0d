"""Each number of stats() against a count that the pool has no part in: the callers', the driver's and the server's."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from types import ModuleType

import pytest
from asking import tell
from onloop import OnLoop, end
from pains.sessions import Log, backends, kill, lease, put_all, warm
from servers import import_or_skip
from unit.checks import adds_up
from unit.threads import Caller, eventually

from dbpool import PoolListener, PoolTimeout, ThreadedConnectionPool, TooManyWaiters

psycopg2 = import_or_skip("psycopg2")
KINDS = pytest.mark.parametrize("kind", [ThreadedConnectionPool, OnLoop], ids=["threads", "tasks"])


@pytest.fixture(autouse=True)
def _loop_ends():
    yield
    end()


class Driver:
    """psycopg2 by a name of its own, whose connects are counted and timed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.made = self.failed = 0
        self.seconds = 0.0
        self.module = ModuleType("psycopg2")
        vars(self.module).update(vars(psycopg2))
        self.module.connect = self.connect

    def connect(self, *args, **kwargs):
        began = time.monotonic()
        try:
            conn = psycopg2.connect(*args, **kwargs)
        except psycopg2.Error:
            with self.lock:
                self.failed += 1
            raise
        with self.lock:
            self.made += 1
            self.seconds += time.monotonic() - began
        return conn


class Ears(PoolListener):
    """A listener's tally."""

    def __init__(self):
        self.lock = threading.Lock()
        self.heard = Counter()
        self.held = self.waited_for = 0.0

    def _count(self, name):
        with self.lock:
            self.heard[name] += 1

    def acquired(self, pool, conn):
        self._count("acquired")

    def released(self, pool, conn, seconds):
        self._count("released")
        with self.lock:
            self.held += seconds

    def waited(self, pool, seconds):
        self._count("waited")

    def timed_out(self, pool, seconds):
        self._count("timed_out")

    def connected(self, pool, conn, seconds):
        self._count("connected")

    def connect_failed(self, pool, error):
        self._count("connect_failed")

    def discarded(self, pool, reason):
        self._count(reason)


def load(pool, counted, seed, turns):
    """One caller of several: uses connections, leaves transactions open, closes some, and counts what it is told."""
    dice = random.Random(seed)
    for _ in range(turns):
        try:
            conn = pool.getconn(timeout=dice.choice([0.005, 0.05, 5]))
        except PoolTimeout:
            counted["timeouts"] += 1
            continue
        except TooManyWaiters:
            counted["refused"] += 1
            continue
        except psycopg2.Error:
            counted["errors"] += 1
            continue
        counted["leases"] += 1
        try:
            if dice.random() < 0.5:
                tell(conn, f"SELECT pg_sleep({dice.choice([0, 0.01, 0.03])})")
                counted["dirty"] += 1
        except psycopg2.Error:
            counted["cut off"] += 1
        close = dice.random() < 0.1
        counted["closed"] += close
        pool.putconn(conn, close=close)


def loaded(pool, faults=lambda: None, callers=6, turns=60):
    """Run callers, and *faults* beside them; return what all of them have counted together."""
    counts = [Counter() for _ in range(callers)]
    running = [Caller(load, pool, counted, seed, turns) for seed, counted in enumerate(counts)]
    faults()
    for caller in running:
        caller.result()
    return sum(counts, Counter())


def at_rest(pool):
    """Return the stats once nothing is under way."""
    eventually(lambda: not (pool.stats().connecting or pool.stats().closing or pool.stats().used))
    return pool.stats()


@KINDS
@pytest.mark.parametrize("listens", [False, True], ids=["alone", "with a listener"])
def test_under_load_with_faults_every_number_is_what_others_have_counted(town, make, through, kind, listens):
    proxy, dsn = through(town)
    driver, ears, log = Driver(), Ears(), Log(town)
    options = {"listener": ears} if listens else {}
    pool = make(dsn, 0, 3, driver=driver.module, kind=kind, max_waiting=2, start="lazy", **options)

    def faults():
        for _ in range(4):
            time.sleep(0.1)  # the load's time, not a wait for a state
            proxy.refuse()
            proxy.reset()
            time.sleep(0.05)
            proxy.accept()

    counted = loaded(pool, faults)
    stats = at_rest(pool)
    assert adds_up(pool)
    assert counted["leases"] > 50
    unused = stats.leases - counted["leases"]  # taken for somebody who did not get it: it was dead, or time was up
    assert 0 <= unused <= stats.dead.get("poll", 0) + stats.dead.get("ping", 0) + stats.timeouts
    assert (stats.timeouts, stats.refused) == (counted["timeouts"], counted["refused"])
    assert (stats.opened, stats.connect_errors) == (driver.made, driver.failed)
    assert stats.connect_errors > 0
    assert stats.connect_times.count == driver.made
    assert stats.connect_times.sum == pytest.approx(driver.seconds, rel=0.5)
    eventually(lambda: len(backends(town)) == pool.stats().size)
    assert sum(stats.discards.values()) == driver.made - stats.size
    assert stats.discards["closed by the caller"] <= counted["closed"]
    assert sum(stats.dead.values()) > 0
    rollbacks = log.statements().count("ROLLBACK")
    assert rollbacks <= stats.resets <= counted["dirty"] + counted["cut off"]  # a transaction may have begun there
    assert (stats.waits, stats.waited) == (stats.wait_times.count, stats.wait_times.sum)
    if listens:
        heard = ears.heard
        assert (heard["acquired"], heard["released"]) == (counted["leases"], stats.holds)
        assert counted["leases"] == stats.holds
        assert stats.held == pytest.approx(ears.held)
        assert (heard["connected"], heard["connect_failed"]) == (stats.opened, stats.connect_errors)
        assert {reason: heard[reason] for reason in stats.discards} == stats.discards


@KINDS
@pytest.mark.skipif(sys.platform != "linux", reason="the watch is Linux's")
def test_what_the_watch_finds_dead_is_what_was_killed(town, make, kind):
    pool = make(town.dsn, 0, 5, kind=kind)
    pids = warm(pool, 5)
    for count in (2, 1):
        before = pool.stats().dead.get("watch", 0)
        kill(town, pids[:count])
        del pids[:count]
        eventually(lambda before=before, count=count: pool.stats().dead.get("watch", 0) == before + count)
    eventually(lambda: pool.stats().size == 2 == len(backends(town)))
    assert pool.stats().dead == {"watch": 3}
    assert pool.stats().discards == {"lost": 3}


@KINDS
def test_pings_are_what_the_server_was_asked(town, make, kind, alone):
    pool = make(town.dsn, 0, 3, kind=kind, ping_after=0, check_after=None)
    log = Log(town)
    for _ in range(4):
        put_all(pool, lease(pool, 3))
    pool.check()
    asked = log.statements().count("SELECT 1")
    assert asked > 10
    assert pool.stats().pings == asked


@KINDS
def test_the_size_is_what_the_server_has_at_any_moment(town, make, kind):
    pool = make(town.dsn, 1, 4, kind=kind)
    for wanted in (1, 4, 2):
        held = lease(pool, wanted)
        stats = pool.stats()
        assert stats.size == len(backends(town))
        assert (stats.used, stats.idle) == (wanted, stats.size - wanted)
        put_all(pool, held)
