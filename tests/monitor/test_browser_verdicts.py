"""The verdict on the page, of a real PostgreSQL: within three seconds it says the cause that the pool itself knows."""

from __future__ import annotations

import threading
import time

import pytest
from asking import tell
from pains.sessions import lease, pid_of, put_all
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool.verdict import EXHAUSTED, HEALTHY, LEAK, REFUSES, SLOW

from .browser import PATIENCE

psycopg2 = import_or_skip("psycopg2")
pytestmark = pytest.mark.faults
PROMPT = 3.0  # seconds
LONG = 60.0  # seconds that callers wait


@pytest.fixture
def shown(open_pool, monitor, viewer):
    """Opens a pool, and has someone look at its page: `shown(dsn, maxconn)`."""

    def shown(dsn, maxconn=2, **options):
        pool = open_pool("orders", 0, maxconn, psycopg2, dsn, timeout=LONG, trace=True, **options)
        seen = viewer(monitor(pool).url)
        seen.see(HEALTHY)
        return pool, seen

    return shown


def known(pool, code):
    """Wait until the pool itself says so."""
    eventually(lambda: pool.verdict().code == code)


def seconds_until(pool, seen, code):
    """Return for how long the page says otherwise once the pool knows."""
    known(pool, code)
    began = time.monotonic()
    seen.see(code)
    return time.monotonic() - began


def queue(pool, callers):
    """Have so many wait."""
    begun = [Caller(pool.getconn) for _ in range(callers)]
    eventually(lambda: pool.stats().waiting == callers)
    return begun


def serve(pool, callers):
    """See them served."""
    for caller in callers:
        pool.putconn(caller.result(PATIENCE))


def test_exhaustion_names_who_holds_the_connections(town, shown):
    pool, seen = shown(town.dsn, 3)
    held = lease(pool, 3)
    callers = queue(pool, 2)
    assert seconds_until(pool, seen, EXHAUSTED) < PROMPT
    seen.has(".verdict strong", "Exhausted")
    seen.has(".verdict", "all 3 connections are in use, 2 callers wait")
    assert {str(pid_of(conn)) for conn in held} == set(
        seen.page.locator(".connections td:nth-child(2)").all_inner_texts()
    )
    assert seen.page.locator(".waiters tbody tr").count() == 2
    put_all(pool, held)
    serve(pool, callers)
    assert seconds_until(pool, seen, HEALTHY) < PROMPT


def test_a_leak_names_its_place(town, shown):
    pool, seen = shown(town.dsn, leak_threshold=0.3)
    kept, done = [], threading.Event()

    def forgetful():
        kept.append(pool.getconn())
        done.wait(LONG)

    holder = Caller(forgetful)
    assert seconds_until(pool, seen, LEAK) < PROMPT
    seen.has(".verdict strong", "Leak suspected")
    seen.has(".verdict", "1 connections are held for longer than leak_threshold")
    seen.has(".verdict", "in forgetful")
    seen.has(".leaks", "in forgetful")
    seen.has(".events", "held for longer than leak_threshold")
    done.set()
    holder.result()
    put_all(pool, kept)


def test_a_database_that_is_down_is_said_to_refuse(inn, shown):
    pool, seen = shown(inn.dsn)
    inn.stop("immediate")
    callers = queue(pool, 1)
    assert seconds_until(pool, seen, REFUSES) < PROMPT
    seen.has(".verdict strong", "Database refuses")
    seen.has(".verdict", "no connection can be opened, for ")
    seen.has(".connecting", "last error")
    seen.has(".events", "connect failed")
    inn.start()
    serve(pool, callers)
    assert seconds_until(pool, seen, HEALTHY) < PROMPT
    seen.has(".events", "recovered")


def test_a_frozen_backend_is_the_databases_slowness(town, shown, freeze):
    pool, seen = shown(town.dsn)
    held = lease(pool, 2)
    for conn in held:
        freeze(town, pid_of(conn))
    asking = [Caller(tell, conn, "SELECT 1") for conn in held]
    callers = queue(pool, 1)
    assert seconds_until(pool, seen, SLOW) < PROMPT
    seen.has(".verdict strong", "Database slow")
    seen.has(".verdict", "2 of 2 wait for the database's answer")
    for conn in held:
        town.resume(pid_of(conn))
    for each in asking:
        each.result()
    put_all(pool, held)
    serve(pool, callers)
    assert seconds_until(pool, seen, HEALTHY) < PROMPT
