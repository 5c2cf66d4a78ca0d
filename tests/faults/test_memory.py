"""Row 58: each memory allocation of a get, a put, a block fails once: invariants hold, or the process says so."""

from __future__ import annotations

import json
import os

import pytest
from servers import import_or_skip
from unit.test_processes import run as run_over_fakes

OPERATIONS = {
    "getconn + putconn, hits": (2, "pool.putconn(pool.getconn())"),
    "getconn, connecting": (0, "pool.putconn(pool.getconn())"),
    "putconn in a transaction": (2, "conn = pool.getconn(); conn.execute(); pool.putconn(conn)"),
    "putconn(close=True)": (2, "pool.putconn(pool.getconn(), close=True)"),
    "with connection()": (2, "with pool.connection() as conn: conn.execute()"),
    "keyed": (2, "pool.putconn(pool.getconn('key'), 'key')"),
    "connect()": (2, "pool.connect().close()"),
    "exhausted": (2, "conns = [pool.getconn(), pool.getconn()]; exhausted(pool)"),
}
# Each allocation is tried in a process of its own: the interpreter itself does not survive all of them.
SWEEP = """
import gc, json, logging, warnings, _testcapi
from dbpool import PoolExhausted, SimpleConnectionPool
from fakes import FakeConnection
from unit.checks import adds_up, lease_all

HELD, FAILED, LOST = 0, 1, 2
QUIET = 25  # so many in a row that meet no allocation: there are no more

def exhausted(pool):
    try:
        pool.getconn(timeout=0)
    except PoolExhausted:
        pass

def operation(pool):
    {operation}

def attempt(number):
    signal.alarm(20)  # a deadlock
    connector = FakeConnector(lambda: FakeConnection(1))
    pool = {kind}({idle}, 2, connect=connector, config={{"background": False, "timeout": 3, "detect_deadlock": False}})
    gc.collect()
    gc.disable()
    # CPython needs memory for a tuple of three to leave `with lock:`, and leaves the lock taken if there is none, which
    # no program can help. It keeps some of those that were freed.
    spare = [(number, each, None) for each in range(20)]
    del spare
    failed = False
    _testcapi.set_nomemory(number, number + 1)
    try:
        operation(pool)
    except BaseException:
        failed = True
    _testcapi.remove_mem_hooks()
    gc.enable()
    conn = pool._state.keyed.get("key")
    if conn is not None:  # a keyed lease outlives its caller: the same key finds it again
        pool.putconn(conn, "key")
        conn = None
    lease_all(pool)
    stats = pool.stats()
    assert (stats.used, stats.idle, stats.waiting, stats.connecting) == (0, 2, 0, 0), stats
    assert adds_up(pool), stats
    pool.close(timeout=0)
    return FAILED if failed else HELD

def in_a_process(number):
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = LOST
        try:
            code = attempt(number)
        except BaseException as error:
            print(number, repr(error), file=sys.stdout, flush=True)
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

warnings.simplefilter("ignore")
logging.disable()
attempt(10**6)  # loads what is loaded once
signal.alarm(0)
codes, number = [], 0
while codes[-QUIET:] != [HELD] * QUIET:
    codes.append(in_a_process(number))
    number += 1
print(json.dumps(codes))
"""


@pytest.mark.fault(58)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.parametrize(
    "kind", ["ThreadedConnectionPool", pytest.param("SimpleConnectionPool", marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_allocation_that_fails_loses_nothing_or_says_so(kind, name):
    import_or_skip("_testcapi")
    idle, operation = OPERATIONS[name]
    script = SWEEP.format(kind=kind, idle=idle, operation=operation)
    lines = run_over_fakes(script, covered=False).splitlines()  # nothing else is to allocate memory
    codes = json.loads(lines[-1])
    failed, lost, killed = codes.count(1), codes.count(2), [-code for code in codes if code < 0]
    print(f"\n{name}, {kind}: {len(codes)} allocations, {failed} raised, {lost} lost something, killed by {killed}")
    assert failed > 1
    assert lost == 0, lines[:-1]
    assert 14 not in killed, "it hung"  # SIGALRM
    assert len(killed) <= len(codes) / 10  # the interpreter's own
