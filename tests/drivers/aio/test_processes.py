"""Each driver: an interpreter ends at once with the pool open; after a fork, parent and child both work."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from forking import IN_CHILD
from pains.sessions import Stopwatch

from .faces import FILES, SERVERS, Aiomysql

ROOT = Path(__file__).resolve().parents[3]
HEAD = """
import asyncio, os, sys, warnings
sys.path[:0] = {path!r}
from dbpool import PoolError
from drivers.aio.faces import *
warnings.filterwarnings("ignore", message=".*was deleted while still open")  # psycopg says so in the child

database = {kind}({arguments})
pool = database.pool(1, 3, timeout=20)
"""


@pytest.fixture(params=[*SERVERS, *FILES, "aiomysql"])
def script(request, tmp_path):
    """Runs a script in a process of its own, with `database` and `pool`; return what it has printed."""
    name = request.param
    if name in FILES:
        kind, arguments = FILES[name], repr(str(tmp_path / "notes.db"))
    elif name in SERVERS:
        kind, arguments = SERVERS[name], repr(request.getfixturevalue("server").dsn)
    else:
        kind, arguments = Aiomysql, f"**{request.getfixturevalue('mariadb')!r}"
    kind("unused") if name != "aiomysql" else kind()  # skips where the driver is missing
    head = HEAD.format(path=[str(ROOT), str(ROOT / "tests")], kind=kind.__name__, arguments=arguments)

    def run(text):
        program = head + textwrap.dedent(text)
        # From Python 3.12 on, a fork beside threads is warned of.
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    return run


def test_an_interpreter_ends_with_the_pool_open_and_a_connection_out(script):
    with Stopwatch() as watch:
        told = script("""
            async def main():
                global conn
                idle, conn = await pool.getconn(), await pool.getconn()
                await pool.putconn(idle)
                print(await database.ask(conn, "SELECT 6 * 7"), pool.stats().size)

            asyncio.run(main())
            print(pool.stats().size)
        """)
    assert told == "42 2\n0\n"
    assert watch.seconds < 20  # most of it is the start


# Inside a loop it must not end as an interpreter does: it would end its parent's loop, which shares an epoll with it.
IN_CHILD_OF_A_LOOP = """
def in_child_of_a_loop(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            gc.collect()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""
FORKED = """
warnings.simplefilter("ignore", ResourceWarning)  # of what the child has inherited

async def use():
    async with pool.connection() as conn:
        assert await database.ask(conn, "SELECT 6 * 7") == 42

def child():
    assert pool.stats().size == 0, pool
    asyncio.run(use())

async def main():
    idle, leased = await pool.getconn(), await pool.getconn()
    await pool.putconn(idle)
    del idle
    await database.tell(leased, "INSERT INTO note VALUES ('lost')")
    in_child_of_a_loop(child)
    assert database.in_transaction(leased)
    assert await database.ask(leased, "SELECT count(*) FROM note") == 1
    await pool.putconn(leased)
    await use()
    async with pool.connection() as conn:
        assert await database.ask(conn, "SELECT count(*) FROM note") == 0
    assert pool.stats().opened == 2

async def empty():
    async with database.pool() as pool, pool.connection() as conn:
        await database.tell(conn, *database.fresh)

asyncio.run(empty())
asyncio.run(main())
in_child(child)
asyncio.run(use())
print("ended")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_child_opens_its_own_and_the_parents_transaction_goes_on(script):
    assert script(IN_CHILD + IN_CHILD_OF_A_LOOP + FORKED) == "ended\n"
