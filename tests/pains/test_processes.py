"""Pains 4, 26, 27, 34: a process forks, ends, closes its pools, is sent signals, and stands still."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from asking import ask
from clusters import _status
from drivers.conftest import name_socket_for_kingbase
from forking import IN_CHILD
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool import PoolClosed, PoolError

from .processes import begin, run, run_timed, script_of
from .sessions import MARGIN, Stopwatch, backends, lease, pid_of, warm

psycopg2 = import_or_skip("psycopg2")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")


# ---- 4: a pool made before fork --------------------------------------------------------------------------------------

FORKING = (
    IN_CHILD
    + """
import threading, warnings
import {driver} as driver
from dbpool import PoolError, ThreadedConnectionPool

warnings.simplefilter("ignore")  # from Python 3.12 on, a fork beside threads is warned of

def ask(conn, query="SELECT pg_backend_pid()"):
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]

pool = ThreadedConnectionPool(2, 3, {dsn!r}, connect=driver, config={{"timeout": 20}})
idle, leased = pool.getconn(), pool.getconn()
pids = [ask(idle), ask(leased)]
idle.rollback()
pool.putconn(idle)
ask(leased, "SELECT set_config('pains.mark', 'here', true)")  # for this transaction

inside, go = threading.Event(), threading.Event()

def stay_inside():
    with pool._lock:
        inside.set()
        go.wait(20)

thread = threading.Thread(target=stay_inside)
thread.start()
inside.wait(20)

def child():
    conns = [pool.getconn() for _ in range(3)]
    assert not {{ask(conn) for conn in conns}} & set(pids), "it shares a backend"
    for conn in conns:
        pool.putconn(conn)
    try:
        pool.putconn(leased)
    except PoolError as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError("the parent's lease was taken back")
    leased.close()
    idle.close()
    pool.closeall()

for _ in range(2):
    in_child(child)

go.set()
thread.join()
assert ask(leased, "SELECT current_setting('pains.mark')") == "here", "the transaction did not go on"
assert ask(leased) == pids[1]
leased.rollback()
pool.putconn(leased)
assert {{ask(pool.getconn(key)) for key in "ab"}} == set(pids), "the parent lost a session"
print("good")
"""
)


@pytest.mark.fault(55, 56)
@needs_fork
def test_pain_04_parent_and_child_both_go_on_with_backends_of_their_own(town, tmp_path, driver):
    name_socket_for_kingbase(town.dsn)
    assert run(script_of(tmp_path, FORKING, town, driver=driver.__name__)) == "good\n"


# ---- 26: the interpreter does not end --------------------------------------------------------------------------------

ENDING = """
import threading, time
import {driver} as driver
from dbpool import ThreadedConnectionPool

pool = ThreadedConnectionPool(2, 2, {dsn!r}, connect=driver, config={{"timeout": None, "detect_deadlock": False}})
{act}
print(time.monotonic())
"""
ACTS = {
    "idle": "pool.putconn(pool.getconn())",
    "leased": "held = pool.getconn(); held.cursor().execute('SELECT 1')",
    "waiting": """
held = [pool.getconn(), pool.getconn()]
threading.Thread(target=pool.getconn, daemon=True).start()
while not pool.stats().waiting:
    time.sleep(0.001)
""",
    "dropped": "del pool",
}


@pytest.mark.fault(59)
@pytest.mark.parametrize("act", ACTS)
def test_pain_26_a_script_that_never_closes_its_pool_ends_at_once_and_says_nothing(town, tmp_path, driver, act):
    name_socket_for_kingbase(town.dsn)
    printed, ended = run_timed(script_of(tmp_path, ENDING, town, driver=driver.__name__, act=ACTS[act]))
    assert ended - float(printed) < 0.1 + MARGIN


# ---- 27: close() -----------------------------------------------------------------------------------------------------


def test_pain_27_close_refuses_wakes_waits_and_then_forces(town, make):
    pool = make(town.dsn, 0, 1)
    conn = pool.getconn()
    user = Caller(ask, conn, "SELECT pg_sleep(30)")
    eventually(lambda: conn.info.transaction_status == 1)  # busy
    waiter = Caller(pool.getconn, timeout=60)
    eventually(lambda: pool.stats().waiting == 1)
    with Stopwatch() as watch:
        closer = Caller(pool.close, 0.5)
        eventually(lambda: pool.closed)
        with pytest.raises(PoolClosed):
            waiter.result()
        with pytest.raises(PoolClosed):
            pool.getconn()
        assert not closer.ended
        closer.result()
    assert 0.5 <= watch.seconds < 0.5 + MARGIN
    with pytest.raises(psycopg2.Error):
        user.result()
    pool.close()
    pool.close(timeout=0)


def test_pain_27_close_waits_no_longer_than_its_users_need(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver)
    conns = lease(pool, 2)
    closer = Caller(pool.close, 60)
    eventually(lambda: pool.closed)
    for conn in conns:
        assert ask(conn, "SELECT 1") == 1  # not closed under its user
        pool.putconn(conn)
    closer.result()
    assert all(conn.closed for conn in conns)


def test_pain_27_closeall_closes_what_is_in_use_too_and_a_second_one_is_refused(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver)
    idle, leased = lease(pool, 2)
    pool.putconn(idle)
    pool.closeall()
    assert idle.closed
    assert leased.closed
    for refused in (pool.closeall, pool.getconn, lambda: pool.putconn(leased)):
        with pytest.raises(PoolError, match="connection pool is closed"):
            refused()
    pool.close()


CLOSING = """
import atexit, os, signal, sys, threading, time
from dbpool import PoolError, ThreadedConnectionPool

pool = ThreadedConnectionPool(1, 2, {dsn!r}, config={{"timeout": None, "detect_deadlock": False}})
held = []

def close(*args):
    pool.{close}
    print("closed", flush=True)

{how}
"""
HOWS = {
    "atexit": "atexit.register(close); held.append(pool.getconn())",
    "a signal while it waits": """
signal.signal(signal.SIGTERM, close)
held += [pool.getconn(), pool.getconn()]

def send():
    while not pool.stats().waiting:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=send, daemon=True).start()
try:
    pool.getconn()
except PoolError as error:
    assert "closed" in str(error), error
""",
    "a signal while it gets and puts": """
signal.signal(signal.SIGALRM, close)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    while True:
        pool.putconn(pool.getconn())
except PoolError as error:
    assert "closed" in str(error), error
""",
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("close", ["close(0.2)", "closeall()"])
def test_pain_27_a_pool_can_be_closed_at_exit_and_by_a_signals_handler(town, tmp_path, how, close):
    assert run(script_of(tmp_path, CLOSING, town, how=HOWS[how], close=close)) == "closed\n"


# ---- 34: freeze and thaw ---------------------------------------------------------------------------------------------

THAWING = """
from dbpool import ThreadedConnectionPool

pool = ThreadedConnectionPool(2, 2, {dsn!r}, application_name="thawing",
                              config={{"idle_timeout": 0.2, "background": {background}}})
print("ready", flush=True)
input()
for _ in range(2):
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT 42")
        print(cursor.fetchone()[0], flush=True)
"""


@pytest.mark.parametrize("background", [True, False])
def test_pain_34_the_first_checkout_after_a_thaw_is_good(cluster, tmp_path, background):
    server = cluster(idle_session_timeout="400")  # ms: longer than the pool's own limit
    script = script_of(tmp_path, THAWING, server, background=background)
    with begin(script, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGSTOP)
            eventually(lambda: _status(process.pid)[0] == "T")
            eventually(lambda: not backends(server, "thawing"))
            process.send_signal(signal.SIGCONT)
            printed, complaints = process.communicate("\n", timeout=20)
        finally:
            process.kill()
    assert (printed, complaints) == ("42\n42\n", "")


@pytest.mark.fault(65)
@pytest.mark.parametrize("background", [True, False])
def test_pain_34_time_that_the_machine_was_suspended_counts(town, make, monkeypatch, background):
    pool = make(town.dsn, 0, 1, max_lifetime=1800, check_after=0, background=background)
    [old] = warm(pool)
    monkeypatch.setattr("dbpool.upkeep.slept", lambda: 10.0**9)  # years
    with pool.connection() as conn:
        assert pid_of(conn) != old


@pytest.mark.fault(65)
def test_pain_34_a_machine_that_was_suspended_looks_at_all_its_connections(town, make, monkeypatch, alone):
    from dbpool.clock import slept

    from .sessions import Log

    pool = make(town.dsn, 0, 3, max_lifetime=None, ping_after=None, check_after=0)
    pids = warm(pool, 3)
    monkeypatch.setattr("dbpool.upkeep.slept", lambda: slept() + 100)
    log = Log(town)
    conns = lease(pool, 3)
    assert sorted(map(pid_of, conns)) == sorted(pids)
    assert log.statements() == ["SELECT 1"] * 3
    for conn in conns:
        pool.putconn(conn)
