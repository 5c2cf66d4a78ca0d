"""The example with two databases, run for real on a server; and what a total over both means there."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import pytest
from asking import ask, tell
from servers import import_or_skip
from unit.threads import Caller

from .test_web import EXAMPLES, ROOT, load

NAMES = ("dbpool_shop", "dbpool_archive")


@pytest.fixture
def databases(server):
    """The DSNs of two databases, made for the test."""
    psycopg2 = import_or_skip("psycopg2")
    with closing(psycopg2.connect(server.dsn)) as conn:
        conn.autocommit = True
        for name in NAMES:
            tell(conn, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        yield [psycopg2.extensions.make_dsn(server.dsn, dbname=name) for name in NAMES]
        for name in NAMES:
            ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            tell(conn, ending, f"DROP DATABASE {name}")


def test_it_moves_every_order(databases):
    shop, archive = databases
    environ = {**os.environ, "SHOP_DSN": shop, "ARCHIVE_DSN": archive}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "endpoints_postgres.py")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first == "0 orders in the shop, 200 in the archive"
    assert second.startswith("at most 3 connections at a time; leases: {'archive': ")


def test_the_server_never_sees_more_than_the_total(databases, server):
    """As pg_stat_activity tells, while all of them move orders."""
    psycopg2, example = import_or_skip("psycopg2"), load("endpoints_postgres")
    seen = []
    with example.open_pool(*databases) as pool, closing(psycopg2.connect(server.dsn)) as watcher:
        watcher.autocommit = True
        example.fill(pool)
        callers = [Caller(lambda n=n: [example.move(pool, i) for i in range(n, 201, 8)]) for n in range(1, 9)]
        mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mover' AND datname LIKE 'dbpool%'"
        while not all(caller.ended for caller in callers):
            seen.append(ask(watcher, mine))
        for caller in callers:
            caller.result()
        assert (example.count(pool, "shop"), example.count(pool, "archive")) == (0, 200)
        assert pool.total.used <= example.TOTAL
        assert {stats.idle > 0 for stats in pool.stats().values()} == {True}
    # A backend is listed for a moment after libpq's close() has returned.
    assert sorted(seen)[len(seen) // 2] <= example.TOTAL
    assert max(seen) <= example.TOTAL + 2
