"""Rows 1 to 5: backends that are ended, crash, and take all others along; servers that restart, or stay away."""

from __future__ import annotations

import os
import signal
import time
from threading import Event

import pytest
from asking import ask, tell
from pains.processes import run, script_of
from pains.sessions import MARGIN, Stopwatch, answers, is_gone, kill, lease, pid_of, put_all, warm
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolTimeout
from dbpool.opening import FIRST_PAUSE, LONGEST_REFUSAL, Backoff

psycopg2 = import_or_skip("psycopg2")
OUTAGE = 2.0  # seconds


@pytest.fixture(params=["watched", "unwatched"])
def watching(request):
    """With the housekeeper, who hears of losses from the system, and without: then a look has to find them."""
    if request.param == "unwatched":
        request.getfixturevalue("alone")


# ---- 1: idle backends terminated -------------------------------------------------------------------------------------


@pytest.mark.fault(1)
def test_nobody_is_handed_a_dead_connection_nor_waits_for_another(town, make, driver, watching, monkeypatch):
    pauses = []
    monkeypatch.setattr(Backoff, "next", lambda backoff: pauses.append(1.0) or 1.0)
    pool = make(town.dsn, 0, 5, driver=driver, check_after=0)
    dead = warm(pool, 5)
    kill(town, dead)
    for _ in range(10):
        with pool.connection() as conn:
            assert ask(conn, "SELECT pg_backend_pid()") not in dead
    assert len(lease_all(pool)) == 5
    assert pool.stats().discards == {"lost": 5}
    assert pauses == []
    assert pool.stats().connect_errors == 0


# ---- 2: a backend dies while its holder is in a transaction ----------------------------------------------------------


@pytest.mark.fault(2)
@pytest.mark.parametrize("noticed", [True, False], ids=["the holder has met the error", "nobody knows yet"])
def test_a_loss_in_a_transaction_is_a_bad_return_and_nothing_more(town, make, driver, watching, noticed):
    pool = make(town.dsn, 0, 1, driver=driver)
    conn = pool.getconn()
    tell(conn, "SELECT 1")
    kill(town, [pid_of(conn)])
    if noticed:
        with pytest.raises(driver.OperationalError):
            tell(conn, "SELECT 2")
    with Stopwatch() as watch:
        pool.putconn(conn)
    assert watch.seconds < 0.1 + MARGIN
    assert (pool.stats().size, pool.stats().discards) == (0, {"lost": 1})
    with pool.connection() as conn:
        assert answers(conn)


# ---- 3: the server restarts under load -------------------------------------------------------------------------------


class Load:
    """So many threads, each of which gets a connection, asks the server, and puts it back, again and again."""

    def __init__(self, pool, threads):
        self.pool = pool
        self.refused = []  # what getconn raised
        self.lost = []  # the backends whose statements failed
        self.served = 0.0  # when one was answered last
        self._over = Event()
        self._callers = [Caller(self._work) for _ in range(threads)]

    def _work(self):
        while not self._over.is_set():
            try:
                conn = self.pool.getconn()
            except Exception as error:
                self.refused.append(error)
                continue
            pid = pid_of(conn)
            try:
                ask(conn, "SELECT 1")
                self.served = time.monotonic()
            except psycopg2.DatabaseError:  # an OperationalError as a rule
                self.lost.append(pid)
            self.pool.putconn(conn)

    def await_answer(self, since):
        """Return once a statement was answered that late; say when the first was."""
        eventually(lambda: self.served > since)
        return self.served

    def end(self):
        self._over.set()
        for caller in self._callers:
            caller.result()


@pytest.mark.fault(3)
def test_no_getconn_fails_over_a_restart_that_is_shorter_than_its_timeout(inn, make):
    pool = make(inn.dsn, 0, 4)
    load = Load(pool, 8)
    load.await_answer(0.0)
    inn.stop("immediate")
    stopped = time.monotonic()
    Event().wait(OUTAGE)
    assert load.served < stopped
    inn.start()
    started = time.monotonic()
    assert load.await_answer(stopped) - started < 1 + MARGIN
    eventually(lambda: pool.stats().idle + pool.stats().used == 4)
    load.end()
    assert load.refused == []
    assert len(set(load.lost)) <= 4
    assert all(load.lost.count(pid) <= 2 for pid in load.lost)  # a dead one may be handed out once more, not again
    lease_all(pool)
    assert adds_up(pool)


# ---- 4: a long outage ------------------------------------------------------------------------------------------------


@pytest.mark.fault(4)
def test_who_waits_is_told_in_time_and_why(inn, make, driver):
    pool = make(inn.tcp_dsn, 0, 4, driver=driver)
    inn.stop("immediate")

    def wait():
        with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=0.7)
        return watch.seconds, caught.value.__cause__

    for caller in [Caller(wait) for _ in range(8)]:
        seconds, cause = caller.result()
        assert 0.7 <= seconds < 0.7 + 0.1 + MARGIN
        assert isinstance(cause, driver.OperationalError)
        assert "refused" in str(cause)


class Attempts:
    """Stands for psycopg2.connect, and remembers when each call began and ended."""

    def __init__(self):
        self.times = []
        self._connect = psycopg2.connect

    def __call__(self, *args, **kwargs):
        began = time.monotonic()
        try:
            return self._connect(*args, **kwargs)
        finally:
            self.times.append((began, time.monotonic()))


@pytest.mark.fault(4)
def test_all_who_wait_and_the_housekeeper_make_one_attempt_per_step_together(inn, make, monkeypatch):
    pool = make(inn.dsn, 2, 4)
    inn.stop("immediate")
    attempts = Attempts()
    monkeypatch.setattr(psycopg2, "connect", attempts)

    def wait():
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=3)

    for caller in [Caller(wait) for _ in range(8)]:
        caller.result()
    monkeypatch.undo()
    times = sorted(attempts.times)
    refused = min(ended for _, ended in times)  # those under way by then did not know
    probes = [(refused, max(ended for began, ended in times if began < refused))]
    probes += [(began, ended) for began, ended in times if began >= refused]
    assert len(probes) >= 4
    for step, ((_, ended), (began, _)) in enumerate(zip(probes, probes[1:])):
        assert began - ended >= 0.5 * min(FIRST_PAUSE * 2**step, LONGEST_REFUSAL)


WAITING = """
import logging, os, threading, time
from dbpool import ThreadedConnectionPool

logging.disable()
pool = ThreadedConnectionPool(2, 4, {dsn!r}, config={{"start": "background", "timeout": 60}})
for _ in range(8):
    threading.Thread(target=pool.getconn, daemon=True).start()
while pool.stats().connect_errors < 6 or pool.stats().waiting < 8:
    time.sleep(0.05)
attempts, shares = pool.stats().connect_errors, []
for _ in range(3):  # the quietest counts: a busy machine only adds
    wall, cpu = time.monotonic(), time.process_time()
    time.sleep(1.5)
    shares.append((time.process_time() - cpu) / (time.monotonic() - wall))
print(min(shares), pool.stats().connect_errors - attempts, pool.stats().waiting, flush=True)
os._exit(0)  # those who wait would have much to say of it
"""


@pytest.mark.fault(4)
def test_waiting_for_a_server_takes_less_than_a_hundredth_of_a_processor(inn, tmp_path):
    inn.stop("immediate")
    share, attempts, waiting = run(script_of(tmp_path, WAITING, inn)).split()
    assert int(attempts) >= 3  # it has not given up
    assert int(waiting) == 8
    assert float(share) < 0.01


# ---- 5: the crash of one backend resets all --------------------------------------------------------------------------


def crash(pids):
    """Kill the first of these backends as the kernel does, whereupon the server ends all others."""
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: all(map(is_gone, pids)))


@pytest.mark.fault(5)
def test_one_error_is_enough_to_doubt_all_connections(inn, make, driver, alone):
    pool = make(inn.dsn, 0, 5, driver=driver, check_after=None, ping_after=None)  # no look without a reason
    leased, *idle = lease(pool, 5)
    pids = list(map(pid_of, (leased, *idle)))
    put_all(pool, idle)
    idle.clear()
    crash(pids)
    with pytest.raises(driver.OperationalError):
        tell(leased, "SELECT 1")
    pool.putconn(leased)
    for _ in range(5):
        with pool.connection() as conn:
            assert ask(conn, "SELECT pg_backend_pid()") not in pids
    lease_all(pool)
    assert pool.stats().discards == {"lost": 5}


@pytest.mark.fault(5)
def test_all_that_are_idle_are_closed_before_anybody_asks(inn, make, driver):
    pool = make(inn.dsn, 0, 5, driver=driver)
    leased, *idle = lease(pool, 5)
    pids = list(map(pid_of, (leased, *idle)))
    put_all(pool, idle)
    idle.clear()
    crash(pids)
    eventually(lambda: pool.stats().discards.get("lost") == 4)
    assert (pool.stats().used, pool.stats().idle) == (1, 0)
    pool.putconn(leased)
    lease_all(pool)
    assert pool.stats().discards == {"lost": 5}
