"""After a fork, parent and child both work, with no flag: the child opens its own and cannot harm the parent's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from forking import IN_CHILD

HERE = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
HEAD = (
    IN_CHILD
    + """
import multiprocessing, threading, warnings, {driver} as driver
warnings.filterwarnings("ignore", message=".*was deleted while still open")  # psycopg 3 says so at the end
from dbpool import PersistentConnectionPool, PoolError, SimpleConnectionPool, ThreadedConnectionPool

def ask(conn, query="SELECT pg_backend_pid()"):
    cursor = conn.cursor()
    cursor.execute(query)
    return cursor.fetchone()[0]

pool = {kind}(0, 3, {dsn!r}, connect=driver, config={{"timeout": 20}})
"""
)


@pytest.fixture(params=["ThreadedConnectionPool", "SimpleConnectionPool"])
def run(request, server_driver):
    """Run a script in a process of its own, with `pool`, `ask` and `in_child`."""
    driver, dsn = server_driver

    def run(script, kind=request.param):
        text = HEAD.format(driver=driver, dsn=dsn, kind=kind) + textwrap.dedent(script)
        # From Python 3.12 on, a fork beside threads is warned of.
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    return run


@pytest.fixture
def server_driver(postgres_of_any_kind):
    """The name of a driver, and a DSN."""
    return postgres_of_any_kind.driver, postgres_of_any_kind.arguments[0]


@pytest.mark.fault(55)
def test_a_child_opens_its_own_and_the_parents_transaction_goes_on(run):
    run("""
    idle, leased = pool.getconn(), pool.getconn()
    pids = [ask(idle), ask(leased)]
    pool.putconn(idle)
    ask(leased, "SELECT set_config('dbpool.mark', 'here', true)")  # for this transaction

    def child():
        global idle, leased
        assert pool.stats().size == 0, pool
        conn = pool.getconn()
        assert ask(conn) not in pids
        pool.putconn(conn)
        try:
            pool.putconn(leased)
        except PoolError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("the parent's lease was taken back")
        try:
            leased.rollback()
        except driver.Error:
            pass
        del idle, leased
        pool.close()

    in_child(child)
    assert ask(leased, "SELECT current_setting('dbpool.mark')") == "here"
    assert ask(leased) == pids[1]
    pool.putconn(leased)
    assert {ask(pool.getconn()), ask(pool.getconn())} == set(pids)
    """)


@pytest.mark.fault(55)
def test_a_child_may_close_what_it_has_inherited(run):
    run("""
    leased = pool.getconn()
    pid = ask(leased)
    in_child(leased.close)
    in_child(pool.closeall)
    in_child(lambda: (pool.drain(), pool.resize(0, 1)))
    assert ask(leased) == pid
    """)


@pytest.mark.fault(56)
def test_a_fork_while_another_thread_is_inside_the_pool(run):
    run(
        """
        inside, go = threading.Event(), threading.Event()

        def stay():
            with pool._lock:
                inside.set()
                go.wait(30)

        thread = threading.Thread(target=stay)
        thread.start()
        inside.wait(30)
        in_child(lambda: pool.putconn(pool.getconn()))
        go.set()
        thread.join()
        pool.putconn(pool.getconn())
        """,
        kind="ThreadedConnectionPool",
    )


def test_a_thread_that_keeps_its_connection_gets_another_in_the_child(run):
    run(
        """
        conn = pool.getconn()
        pid = ask(conn)
        in_child(lambda: (ask(pool.getconn()) != pid) or sys.exit(1))
        assert ask(conn) == pid
        pool.putconn()
        """,
        kind="PersistentConnectionPool",
    )


def test_workers_of_multiprocessing_share_a_pool_made_before(run):
    run("""
    warm = pool.getconn()
    first = ask(warm)
    pool.putconn(warm)

    def work(number):
        with pool.connection() as conn:
            return ask(conn), ask(conn, f"SELECT {number} * 2")

    with multiprocessing.get_context("fork").Pool(3) as workers:
        found = workers.map(work, range(30))
        workers.close()
        workers.join()
    assert [double for _, double in found] == list(range(0, 60, 2))
    assert first not in {pid for pid, _ in found}
    assert work(1)[0] == first
    """)


def test_a_fork_does_not_end_what_another_threads_proxy_has_under_way(run):
    """The child frees what other threads have in their local storage, before anybody there can know of the fork."""
    run(
        """
        kept, begun, forked, said = threading.local(), threading.Event(), threading.Event(), []

        def work():
            kept.conn = pool.connect()
            kept.conn.cursor().execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
            begun.set()
            forked.wait()
            said.append(ask(kept.conn, "SELECT count(*) FROM mine"))  # gone, had it been rolled back

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        in_child(lambda: None)
        forked.set()
        thread.join()
        assert said == [1], said
        """,
        "ThreadedConnectionPool",
    )


def test_a_callback_that_forks_while_a_connection_is_opened_does_not_end_it(run):
    run(
        """
        from dbpool import PoolListener

        class Forking(PoolListener):
            forked = False

            def connected(self, pool, conn, seconds):
                if not Forking.forked:
                    Forking.forked = True
                    pid = os.fork()
                    if not pid:
                        return
                    assert os.waitpid(pid, 0)[1] == 0, "the child failed"

        parent = os.getpid()
        pool = type(pool)(0, 1, *pool._args, connect=driver, config={"listener": Forking(), "timeout": 5})
        try:
            conn = pool.getconn()
        except BaseException:
            if os.getpid() == parent:
                raise
        if os.getpid() != parent:
            gc.collect()
            os._exit(0)
        assert ask(conn)
        """,
    )
