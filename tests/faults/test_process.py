"""Rows 57, 59, 62, 63: no descriptor left, exit with the pool in use, copies, and a process that stands still."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import signal
import subprocess
import time

import pytest
from clusters import _status
from drivers.conftest import name_socket_for_kingbase
from fakes import FakeConnector
from pains.processes import begin, run, run_timed, script_of
from pains.sessions import MARGIN
from servers import import_or_skip
from unit.threads import eventually

from dbpool import Limiter, PersistentConnectionPool, SimpleConnectionPool, ThreadedConnectionPool
from dbpool import psycopg2 as twin

# ---- 57: no descriptor left ------------------------------------------------------------------------------------------

EXHAUSTED = """
import errno, os, re, resource, threading, time
import {driver} as driver
from dbpool import PoolExhausted, PoolTimeout, ThreadedConnectionPool

def ask(conn):
    with conn.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

pool = ThreadedConnectionPool(0, 3, {dsn!r}, connect=driver, config={{"timeout": 20, "check_after": 0}})
held = pool.getconn() if {used} else None

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
spare = [os.open(os.devnull, os.O_RDONLY)]
while spare[-1] + 2 > len(os.listdir("/proc/self/fd")):  # until there is no hole below the last one
    spare.append(os.open(os.devnull, os.O_RDONLY))
resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, hard))
try:
    os.dup(0)
except OSError as error:
    assert error.errno == errno.EMFILE
else:
    raise AssertionError("there is a descriptor left")

causes = []

def wait(timeout):
    try:
        conn = pool.getconn(timeout=timeout)
        assert ask(conn)
        pool.putconn(conn)
    except PoolTimeout as error:
        causes.append(error.__cause__)

waiters = [threading.Thread(target=wait, args=(0.4,)) for _ in range(4)]
for waiter in waiters:
    waiter.start()
if held is not None:  # who has one goes on meanwhile
    assert ask(held)
for waiter in waiters:
    waiter.join()
assert len(causes) == 4, causes
for cause in causes:
    assert isinstance(cause, driver.OperationalError), repr(cause)
    if driver.__name__ == "ksycopg2":  # the newer libpq of the others says nothing
        assert "Too many open files" in str(cause), cause
if held is not None:
    pool.putconn(held)
    held = pool.getconn()
    assert ask(held)

patient = [threading.Thread(target=wait, args=(20,)) for _ in range(2)]
for waiter in patient:
    waiter.start()
while pool.stats().waiting < 2 and any(waiter.is_alive() for waiter in patient):
    time.sleep(0.001)
began = time.monotonic()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for waiter in patient:
    waiter.join()
held = None if held is None else pool.putconn(held)
conns = [pool.getconn() for _ in range(3)]
took = time.monotonic() - began
assert len({{ask(conn) for conn in conns}}) == 3
assert took < 1.0 + {margin}, took
for conn in conns:
    pool.putconn(conn)
stats = pool.stats()
assert stats.idle == stats.size == 3, stats
print("good")
"""


@pytest.mark.fault(57)
@pytest.mark.parametrize("used", [True, False], ids=["used before", "never used"])
def test_without_descriptors_waiters_get_the_cause_and_all_slots_are_back_within_a_second(town, tmp_path, driver, used):
    import_or_skip("resource")
    name_socket_for_kingbase(town.dsn)
    script = script_of(tmp_path, EXHAUSTED, town, driver=driver.__name__, used=used, margin=2 * MARGIN)
    with begin(script) as process:
        printed, complaints = process.communicate(timeout=50)
    assert (process.returncode, printed) == (0, "good\n"), complaints
    assert all("connecting failed: OperationalError" in line for line in complaints.splitlines()), complaints


DEADLOCKED = """
import os, resource
from dbpool import PoolExhausted, ThreadedConnectionPool

pool = ThreadedConnectionPool(0, 1, {dsn!r}, config={{"timeout": 0.5}})
conn = pool.getconn()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    pool.getconn()
except PoolExhausted as error:
    print(type(error).__mro__[1].__name__)
with conn.cursor() as cursor:
    cursor.execute("SELECT 1")
pool.putconn(conn)  # in a transaction
assert pool.getconn() is conn
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # at the end of a thread glibc loads a library
"""


@pytest.mark.fault(57)
def test_who_can_wait_for_nobody_is_told_so_without_descriptors_too(town, tmp_path):
    """To look at the other threads takes one."""
    import_or_skip("resource")
    assert run(script_of(tmp_path, DEADLOCKED, town)) in ("PoolDeadlock\n", "PoolTimeout\n")


# ---- 59: interpreter exits with the pool open ------------------------------------------------------------------------

ENDING = """
import atexit, socket, threading, time
import {driver} as driver
from dbpool import PoolError, ThreadedConnectionPool

deaf = socket.create_server(("127.0.0.1", 0))  # lets everybody in, and says nothing
where = {dsn!r} if {answers} else f"host=127.0.0.1 port={{deaf.getsockname()[1]}} user=nobody dbname=nothing"
config = {{"timeout": None, "connect_timeout": 60, "detect_deadlock": False, "start": {start!r}, "max_lifetime": 60}}
pool = ThreadedConnectionPool(2, 2, where, connect=driver, config=config)
{act}
print(time.monotonic())
"""
WAIT_FOR_CONNECT = """
def get():
    try:
        pool.getconn()
    except PoolError:
        pass
threading.Thread(target=get, daemon=True).start()
while not pool.stats().connecting:
    time.sleep(0.001)
"""
USE_LATE = """
class Late:
    def __init__(self, pool):
        self.pool, self.conn = pool, pool.getconn()
    def __del__(self):
        try:
            self.pool.putconn(self.conn)
            self.pool.putconn(self.pool.getconn(timeout=1), close=True)
        except PoolError:  # the collector, which comes before, may have ended the lease
            pass
late = Late(pool)
"""
ACTS = {
    "connecting": (False, "lazy", WAIT_FOR_CONNECT),
    "opening in the background": (False, "background", ""),
    "closing a hung connect": (False, "lazy", WAIT_FOR_CONNECT + "pool.close(timeout=0)"),
    "used by atexit": (True, "lazy", "atexit.register(lambda: pool.putconn(pool.getconn()))"),
    "opened by atexit": (True, "eager", "atexit.register(lambda: (pool.drain(), pool.open()))"),
    "used by a finalizer": (True, "eager", USE_LATE),
    "closed by a finalizer": (True, "eager", USE_LATE.replace("self.pool.putconn(self.pool", "self.pool.close() #")),
}


@pytest.mark.fault(59)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"], indirect=True)  # ksycopg2 keeps the GIL while it connects
def test_an_interpreter_ends_at_once_in_silence_whatever_the_pool_is_doing(town, tmp_path, driver, act):
    answers, start, does = ACTS[act]
    script = script_of(tmp_path, ENDING, town, driver=driver.__name__, answers=answers, start=start, act=does)
    printed, ended = run_timed(script)
    assert ended - float(printed) < 1.0 + MARGIN


# ---- 62: pickled, copied, spawned ------------------------------------------------------------------------------------


def uncopyable():
    """Yield whatever cannot be copied, by its name."""
    for kind in (SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool):
        pool = kind(1, 2, connect=FakeConnector())
        yield kind.__name__, pool
        yield f"a block of {kind.__name__}", pool.connection()
        yield f"a proxy of {kind.__name__}", pool.connect()
    yield "a twin", twin.ThreadedConnectionPool(0, 1, "")
    yield "a Limiter", Limiter(3)


def spawn(thing):
    """Give it to a process that is spawned."""
    process = multiprocessing.get_context("spawn").Process(target=repr, args=(thing,))
    process.start()


@pytest.mark.fault(62)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps, spawn], ids=lambda way: way.__name__)
def test_what_belongs_to_this_process_says_why_it_cannot_be_copied(way):
    import_or_skip("psycopg2")
    for name, thing in uncopyable():
        with pytest.raises(TypeError, match=r"cannot copy or pickle \w+: it.* (connection|process)") as caught:
            way(thing)
        assert type(thing).__name__ in str(caught.value), name


# ---- 63: the process stands still for long ---------------------------------------------------------------------------

STANDING = """
import logging, sys, threading, time
import {driver} as driver
from dbpool import PoolTimeout, ThreadedConnectionPool

class Counting(logging.Handler):
    lines = []
    def emit(self, record):
        self.lines.append(record.getMessage())

logging.getLogger("dbpool").addHandler(Counting())
config = {{"timeout": 1.0, "leak_threshold": 1.0, "check_timeout": 1.0, "background": {background}}}
pool = ThreadedConnectionPool(2, 2, {dsn!r}, connect=driver, config=config)
counts = {{"good": 0, "late": 0}}
over = []

def work():
    while not over:
        try:
            with pool.connection() as conn, conn.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.02)")
            counts["good"] += 1
        except PoolTimeout:
            counts["late"] += 1

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
while counts["good"] < 20:
    time.sleep(0.001)
print("busy", flush=True)
input()
then = counts["good"]
while counts["good"] < then + 50:
    time.sleep(0.001)
over.append(True)
for thread in threads:
    thread.join()
stats = pool.stats()
print(counts["late"], stats.opened, stats.discards, Counting.lines)
"""
STILL = 2.5  # seconds, and more than any of the limits


@pytest.mark.fault(63)
@pytest.mark.parametrize("background", [True, False])
def test_a_process_that_stood_still_reports_no_leaks_and_lets_nobody_time_out(town, tmp_path, background):
    script = script_of(tmp_path, STANDING, town, driver="psycopg2", background=background)
    with begin(script, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == "busy\n"
            process.send_signal(signal.SIGSTOP)
            eventually(lambda: _status(process.pid)[0] == "T")
            time.sleep(STILL)
            process.send_signal(signal.SIGCONT)
            printed, complaints = process.communicate("\n", timeout=30)
        finally:
            process.kill()
    told = ["the process stood still for 2.5 s"] if background else []
    assert (printed, complaints) == (f"0 2 {{}} {told}\n", "")
