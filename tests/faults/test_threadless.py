"""Row 48: no thread can be started: everything works without helpers, and nothing is left behind."""

from __future__ import annotations

import threading

import pytest
from asking import tell
from pains.processes import run, script_of
from pains.sessions import answers, kill, lease, put_all, warm
from servers import import_or_skip, require_or_skip
from unit.checks import adds_up, lease_all
from unit.starting import Starter
from unit.threads import Caller, eventually

from dbpool import PoolTimeout, ThreadedConnectionPool
from dbpool.housekeeper import Housekeeper

STARTERS = ("dbpool.pool", "dbpool.bounded", "dbpool.housekeeper")


class Stingy(Starter):
    """Starts only the threads whose numbers, counted from 0, are not refused."""

    def __init__(self, refused):
        super().__init__()
        self.refused, self.asked = refused, 0

    def __call__(self, work, args):
        self.asked += 1
        self.refuses = self.asked - 1 in self.refused
        super().__call__(work, args)


@pytest.fixture
def stingy(monkeypatch):
    """Have so many threads refused: `stingy(range(100))`; the process has a housekeeper that was not started yet."""
    keeper = Housekeeper()
    for module in ("core", "bounded", "abstract", "pool", "proxy", "leaks"):
        monkeypatch.setattr(f"dbpool.{module}.housekeeper", keeper)

    def refuse(numbers):
        starter = Stingy(numbers)
        for module in STARTERS:
            monkeypatch.setattr(f"{module}.start_new_thread", starter)
        return starter

    yield refuse
    keeper._deadlines.clear()
    keeper._due.clear()
    keeper.pause()
    eventually(lambda: not keeper.begun)
    if keeper._watch is not None:
        keeper._watch.close()


def use_in_every_way(town, pool):
    """Have callers wait, time out, meet dead and dirty connections, and see to it that nothing is lost."""
    conns = lease(pool, 3)
    waiter = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    with pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.05)
    tell(conns[0], "SELECT 1")
    put_all(pool, conns)
    again = waiter.result()
    assert answers(again)
    pool.putconn(again)
    kill(town, warm(pool, 3))
    with pool.connection() as conn:
        assert answers(conn)
    pool.resize(1, 2)
    pool.drain()
    assert pool.check().used == 0
    lease_all(pool)
    assert adds_up(pool)


@pytest.mark.fault(48)
@pytest.mark.parametrize("start", ["eager", "lazy", "background"])
def test_without_any_thread_everything_works(town, make, driver, stingy, start):
    starter, before = stingy(range(10**6)), threading.active_count()
    pool = make(town.dsn, 2, 3, driver=driver, timeout=20, start=start, max_lifetime=60, ping_after=0)
    use_in_every_way(town, pool)
    pool.close(timeout=5)
    assert pool.stats().size == 0
    assert starter.asked
    assert not starter.started
    eventually(lambda: threading.active_count() <= before)  # one of the test before may have ended meanwhile


@pytest.mark.fault(48)
@pytest.mark.parametrize("number", range(6))
def test_whichever_thread_cannot_be_started_everything_works(town, make, stingy, number):
    starter = stingy({number})
    pool = make(town.dsn, 2, 3, timeout=20, ping_after=0)
    use_in_every_way(town, pool)
    pool.close(timeout=5)
    assert starter.asked > number  # seven at least
    assert pool.stats().size == 0
    eventually(lambda: len(starter.alive) <= 1)  # the housekeeper


LIMITED = """
import copy, faulthandler, logging, os, random, re, resource, sys, _thread
import {driver} as driver
import dbpool.masking
from dbpool import PoolTimeout, ThreadedConnectionPool

# Nobody's files must not be needed from here on: all is imported. (Root has no such limit.)
warm = driver.connect({dsn!r})
warm.close()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    _thread.start_new_thread(lambda: None, ())
except RuntimeError:
    pass
else:
    print("unlimited")
    sys.exit()

def ask(conn):
    with conn.cursor() as cursor:
        cursor.execute("SELECT 6 * 7")
        return cursor.fetchone()[0]

config = {{"detect_deadlock": False, "ping_after": 0, "max_lifetime": 60, "timeout": 20}}
with ThreadedConnectionPool(2, 3, {dsn!r}, connect=driver, config=config) as pool:
    conns = [pool.getconn() for _ in range(3)]
    assert [ask(conn) for conn in conns] == [42] * 3
    try:
        pool.getconn(timeout=0.05)
    except PoolTimeout:
        pass
    for conn in conns:
        pool.putconn(conn)  # each is in a transaction
    with pool.connection() as conn:
        assert ask(conn) == 42
    assert pool.check().idle == 3
assert len(os.listdir("/proc/self/task")) == 1
print("works")
"""


@pytest.mark.fault(48)
def test_at_the_systems_limit_of_threads_everything_works(town, tmp_path):
    import_or_skip("resource")
    tmp_path.chmod(0o755)
    printed = run(script_of(tmp_path, LIMITED, town, driver="psycopg2"))
    if printed == "unlimited\n":
        require_or_skip("rlimit", "this system does not limit how many threads a user has")
    assert printed == "works\n"


@pytest.mark.fault(48)
def test_a_constructor_that_cannot_connect_leaves_no_thread_and_no_connection(town, stingy):
    """With no thread to be had, and the second of three connects refused."""
    psycopg2 = import_or_skip("psycopg2")
    starter, made = stingy(range(10**6)), []

    def connect(*args, **kwargs):
        if len(made) == 1:
            raise psycopg2.OperationalError("no")
        made.append(psycopg2.connect(*args, **kwargs))
        return made[-1]

    before = threading.active_count()
    with pytest.raises(psycopg2.OperationalError, match="no"):
        ThreadedConnectionPool(3, 3, town.dsn, connect=connect)
    assert [conn.closed for conn in made] == [1]
    assert not starter.started
    assert threading.active_count() == before
