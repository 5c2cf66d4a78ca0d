"""Rows 55 and 56: a process forks with idle connections, and while other threads are inside the pool."""

from __future__ import annotations

import os

import pytest
from drivers.conftest import name_socket_for_kingbase
from forking import IN_CHILD
from pains.processes import run, script_of
from unit.test_processes import QUIET
from unit.test_processes import run as run_over_fakes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")


# ---- 55: fork with idle connections ----------------------------------------------------------------------------------


@pytest.mark.fault(55)
def test_a_child_sends_nothing_on_what_it_has_inherited():
    """Whatever it does with the connections, and also when it ends: not a byte, and no end of the stream."""
    run_over_fakes(
        """
        import gc
        from unit.sockets import Line

        class Polite(Line):
            def close(self):
                if self.fileno() >= 0:
                    try:
                        os.write(self.fileno(), b"X")  # Terminate
                    except BrokenPipeError:  # at the end of the process its peer may be gone
                        pass
                super().close()

            __del__ = close

        class Connector(LineConnector):
            def _open(self):
                line = Polite()
                peers.append(line.peer)
                return line

        peers = []
        pool = ThreadedConnectionPool(2, 3, connect=Connector(), config={"check_after": None, "timeout": 20})
        leased, pids = pool.getconn(), []

        def quiet():
            for peer in peers:
                peer.setblocking(False)
                try:
                    raise AssertionError(f"the child has sent {peer.recv(1)!r}")
                except BlockingIOError:
                    pass

        def drop():
            global leased
            leased = None
            pool._idle.clear()
            gc.collect()

        def use():
            parents = len(peers)
            pool.putconn(pool.getconn())
            pool.putconn(pool.getconn(), close=True)
            assert peers[parents:], "it opened none of its own"

        def put():
            try:
                pool.putconn(leased)
            except Exception as error:
                assert "forked" in str(error), error

        def close_by_hand():
            leased.close()

        for act in (use, put, close_by_hand, drop, pool.closeall, pool.close, pool.drain, pool.check, lambda: None):
            in_child(act)
            quiet()
        pool.putconn(leased)
        assert pool.stats().idle == 2
        """,
        *QUIET,
    )


# ---- 56: fork while another thread holds the lock --------------------------------------------------------------------

UNDER_LOAD = (
    IN_CHILD
    + """
import threading, time, warnings
import {driver} as driver
from dbpool import ThreadedConnectionPool

warnings.simplefilter("ignore")  # from Python 3.12 on, a fork beside threads is warned of

def ask(conn, query):
    with conn.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]

pool = ThreadedConnectionPool(0, 3, {dsn!r}, connect=driver, config={{"timeout": 20, "detect_deadlock": False}})
over, turns, faults = [], [], []

def load():
    try:
        while not over:
            conn = pool.getconn()
            if len(turns) % 3 == 0:
                ask(conn, "SELECT 1")
            pool.putconn(conn, close=len(turns) % 7 == 0)  # so that the lock is taken all the time
            turns.append(True)
    except BaseException as error:
        faults.append(error)

threads = [threading.Thread(target=load) for _ in range(6)]
for thread in threads:
    thread.start()
times = []

def child():
    began = time.monotonic()
    conn = pool.getconn()
    assert ask(conn, "SELECT 6 * 7") == 42
    took = time.monotonic() - began
    assert took < {limit}, took
    pool.putconn(conn)

for number in range({forks}):
    done = len(turns)
    while len(turns) < done + 20 and not faults:
        time.sleep(0.0005)
    in_child(child)
over.append(True)
for thread in threads:
    thread.join()
assert not faults, faults
conns = [pool.getconn(timeout=5) for _ in range(3)]
assert len({{ask(conn, "SELECT pg_backend_pid()") for conn in conns}}) == 3
print("good")
"""
)


@pytest.mark.fault(56)
@pytest.mark.parametrize("forks", [12, pytest.param(300, marks=pytest.mark.nightly)])
def test_a_child_of_a_busy_parent_gets_a_connection_within_a_second(town, tmp_path, driver, forks):
    name_socket_for_kingbase(town.dsn)
    script = script_of(tmp_path, UNDER_LOAD, town, driver=driver.__name__, forks=forks, limit=1.5)
    assert run(script) == "good\n"
