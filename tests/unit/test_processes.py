"""What a process with an open pool does: it exits at once, forks in silence, and dumps at a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from forking import IN_CHILD

pytestmark = pytest.mark.synchronous

HERE = Path(__file__).resolve().parents[2]
HEAD = (
    IN_CHILD
    + """
import os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from fakes import FakeConnector, FakeDriver
from unit.sockets import LineConnector
from unit.threads import eventually
from dbpool import Limiter, ThreadedConnectionPool, dump_on_signal
from dbpool.housekeeper import housekeeper

driver = FakeDriver()
def make(minconn=1, maxconn=2, **options):
    return ThreadedConnectionPool(minconn, maxconn, connect=FakeConnector(driver.connect), config=options)
"""
)
QUIET = ("-W", "ignore::DeprecationWarning")  # for scripts that may fork while a connect or a sweep is under way
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
warned = pytest.mark.parametrize("options", [(), ("-W", "error")], ids=["", "-W error"])


def run(script, *options, covered=True):
    """Run *script* in a process of its own; it must succeed and say nothing on stderr. Return what it prints."""
    env = {name: value for name, value in os.environ.items() if covered or not name.startswith("COV")}
    text = HEAD.format(tests=str(HERE / "tests")) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, *options, "-c", text],
        capture_output=True, text=True, timeout=60, cwd=HERE, env=env, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@warned
def test_a_script_with_an_open_pool_exits_at_once_and_in_silence(options):
    began = time.monotonic()
    run(
        """
        pool = make(max_lifetime=3600)
        pool.putconn(pool.getconn())
        eventually(lambda: housekeeper.running)
        """,
        *options,
    )
    assert time.monotonic() - began < 20


@warned
def test_so_does_one_whose_housekeeper_is_busy(options):
    """With a lease held, deadlines pending, lines that were lost and sweeps every 20 ms."""
    run(
        """
        connector = LineConnector()
        lines = ThreadedConnectionPool(0, 3, connect=connector, config={"max_lifetime": 0.3, "leak_threshold": 3600})
        held, spare = lines.getconn(), lines.getconn()
        lines.putconn(spare)  # no minconn: a refill at exit would leave a socket of the test's own open
        kept = [housekeeper.begin(seconds / 1000, lambda: None) for seconds in range(50)]
        connector.lines[1].peer.close()
        eventually(lambda: lines.stats().discards)
        """
        + ("import gc; lines.closeall(); [line.end() for line in connector.lines]" if options else ""),
        *options,
    )


def test_one_that_is_ended_by_an_exception_shows_only_that():
    script = HEAD.format(tests=str(HERE / "tests")) + "\npool = make()\nconn = pool.getconn()\nraise SystemExit('why')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, cwd=HERE, check=False
    )
    assert (done.returncode, done.stderr) == (1, "why\n")


def test_a_housekeeper_that_is_killed_is_started_again_and_no_pool_depends_on_it():
    # Not covered: CPython 3.11 spins for ever if a thread is to be killed so while another one is traced.
    script = """
        import _thread, ctypes, dbpool.housekeeper as module
        idents = []
        module.start_new_thread = lambda work, args: idents.append(_thread.start_new_thread(work, args))
        import logging; logging.disable()
        connector = LineConnector()
        pool = ThreadedConnectionPool(1, 2, connect=connector, config={"max_lifetime": 3600})
        eventually(lambda: housekeeper.running and housekeeper._wakes < float("inf"))
        kill = ctypes.pythonapi.PyThreadState_SetAsyncExc
        assert kill(ctypes.c_ulong(idents[-1]), ctypes.py_object(SystemExit)) == 1
        housekeeper._watch.ring()
        eventually(lambda: not housekeeper.running)
        conn = pool.getconn()
        pool.putconn(conn)
        assert pool.getconn() is conn and not housekeeper.running
        other = pool.getconn()
        eventually(lambda: housekeeper.running)
        pool.putconn(conn)
        import unit.threads; unit.threads.PATIENCE = 2.0
        connector.lines[0].peer.close()
        eventually(lambda: pool.stats().discards == {"lost": 1})
    """
    run(script, covered=False)


@needs_fork
def test_a_process_with_an_open_pool_forks_in_silence():
    """From Python 3.12 on, a fork beside other threads is warned of."""
    run(
        """
        pool = make(max_lifetime=3600)
        for _ in range(12):
            eventually(lambda: housekeeper.running)
            in_child(lambda: None)
        assert housekeeper._due
        """,
        "-W",
        "error",
    )


@needs_fork
def test_parent_and_child_each_have_a_housekeeper_of_their_own():
    run(
        """
        pool = make(0, 3, idle_timeout=0.05, timeout=20)
        def sweeps_come():
            conns = [pool.getconn() for _ in range(3)]
            for conn in conns:
                pool.putconn(conn)
            eventually(lambda: not pool.stats().idle)
        sweeps_come()
        in_child(sweeps_come)
        sweeps_come()
        """,
        *QUIET,
    )


@needs_fork
def test_a_child_closes_nothing_that_the_parent_watches():
    run(
        """
        connector = LineConnector()
        pool = ThreadedConnectionPool(2, 2, connect=connector, config={"check_after": None})
        in_child(lambda: [line.close() for line in connector.lines])
        stats = pool.stats()
        assert (stats.idle, stats.discards) == (2, {}), stats
        connector.lines[0].peer.close()
        eventually(lambda: pool.stats().discards == {"lost": 1})
        """,
        *QUIET,
    )


@needs_fork
def test_a_limiter_begins_anew_in_a_child():
    run(
        """
        limiter = Limiter(2)
        first, second = make(0, 2, limiter=limiter), make(0, 2, limiter=limiter)
        held = first.getconn(), second.getconn()
        def both_again():
            assert limiter.used == 0
            conns = second.getconn(), second.getconn()
            assert limiter.used == 2
        limiter.lock.acquire()  # as another thread might have it
        in_child(both_again)
        limiter.lock.release()
        assert limiter.used == 2
        """,
        *QUIET,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="this system has no SIGUSR2")
def test_a_process_that_hangs_is_dumped_at_a_signal():
    script = """
        pool = make(0, 1, name="orders", timeout=None, detect_deadlock=False)
        conn = pool.getconn("a key")
        dump_on_signal(file=sys.stdout)
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()
        def wait():
            try:
                pool.getconn(timeout=1)
            except Exception as exc:
                assert "exhausted" in str(exc)
        with pool._lock:
            pass
        wait()
    """
    text = run(script)
    assert "1 pool in process" in text
    assert "'orders' 1 used, 0 idle, 0 connecting, 1 waiting, max 1" in text
    assert "  held by thread 'MainThread' for " in text
    assert " in wait\n" in text
