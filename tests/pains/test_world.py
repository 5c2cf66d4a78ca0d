"""Pains 17, 20, 29, 31, 33, 37 to 40: loops, proxies, other threads, other builds, what is told and what is not."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import ask, tell
from drivers.conftest import name_socket_for_kingbase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

import dbpool
from dbpool import AsyncConnectionPool, PoolConfig, PoolListener, SimpleConnectionPool, ThreadedConnectionPool

from .processes import run, script_of
from .sessions import answers, dsn_of, lease, pid_of, put_all, warm

psycopg2 = import_or_skip("psycopg2")
PACKAGE = Path(dbpool.__file__).parent


def later(issue, raises=ImportError):
    """Mark what another issue brings: once it is there, the test passes, and this mark must go."""
    return pytest.mark.xfail(strict=True, raises=raises, reason=f"brought by the issue on {issue}")


# ---- 17, 20, 29: asyncio ---------------------------------------------------------------------------------------------


def test_pain_17_a_pool_made_outside_any_loop_works_in_one_and_in_a_second_one(town):
    psycopg = import_or_skip("psycopg")
    pool = AsyncConnectionPool(0, 2, town.dsn, connect=psycopg.AsyncConnection.connect)

    async def use():
        conn = await pool.getconn(timeout=5)
        await conn.execute("SELECT 1")
        await pool.putconn(conn)
        return pid_of(conn)

    first = asyncio.run(use())
    assert asyncio.run(use()) != first


def test_pain_20_tasks_have_as_many_turns_each(town):
    psycopg = import_or_skip("psycopg")
    turns = [0] * 20

    async def work(pool, number):
        while max(turns) < 50:
            async with pool.connection() as conn:
                await conn.execute("SELECT 1")
            turns[number] += 1

    async def everybody():
        async with AsyncConnectionPool(2, 2, town.dsn, connect=psycopg.AsyncConnection.connect) as pool:
            await asyncio.gather(*(work(pool, number) for number in range(20)))

    asyncio.run(everybody())
    assert max(turns) / min(turns) < 1.5


def test_pain_29_what_gives_the_arguments_may_be_awaited(town):
    psycopg = import_or_skip("psycopg")

    async def arguments():
        return town.dsn

    async def use():
        async with AsyncConnectionPool(1, 1, arguments, connect=psycopg.AsyncConnection.connect) as pool:
            assert pool.stats().idle == 1

    asyncio.run(use())


# ---- 31, 33, 37: what other issues bring -----------------------------------------------------------------------------


@later("evidence", AttributeError)
def test_pain_31_there_is_a_preset_for_pgbouncer(town):
    options = PoolConfig.for_pgbouncer()
    with ThreadedConnectionPool(1, 1, town.dsn, config=options) as pool, pool.connection() as conn:
        assert answers(conn)
    assert options.reset != "session"


def test_pain_33_mysql_never_goes_away_while_it_is_pinged(mariadb):
    """The server ends sessions that are idle for a second. One beside the pool shows that it does."""
    pymysql = import_or_skip("pymysql")
    arguments = {**mariadb, "autocommit": True}

    def brief(**options):
        return pymysql.connect(init_command="SET SESSION wait_timeout = 1", **options)

    def sessions(conn):
        return ask(conn, "SELECT group_concat(id) FROM information_schema.processlist").split(",")

    with closing(pymysql.connect(**arguments)) as other, closing(brief(**arguments)) as canary:
        doomed = str(canary.thread_id())
        with ThreadedConnectionPool(2, 2, connect=brief, config={"ping_interval": 0.3}, **arguments) as pool:
            kept = {str(conn.thread_id()) for conn in pool._pool}
            eventually(lambda: doomed not in sessions(other))  # it was not pinged
            with closing(brief(**arguments)) as second:
                doomed = str(second.thread_id())
                eventually(lambda: doomed not in sessions(other))
            with pool.connection() as conn:
                assert ask(conn, "SELECT 1") == 1
                assert str(conn.thread_id()) in kept
            assert pool.stats().discards == {}


GREEN = """
from gevent import monkey
monkey.patch_all()
import gevent
from gevent import Timeout
from dbpool import ThreadedConnectionPool

pool = ThreadedConnectionPool(1, 1, {dsn!r}, config={{"timeout": None, "detect_deadlock": False}})
conn = pool.getconn()
killed = gevent.spawn(pool.getconn)
gevent.sleep(0.05)
killed.kill()
try:
    with Timeout(0.05):
        pool.getconn()
except Timeout:
    pass
waiting = gevent.spawn(pool.getconn)
gevent.sleep(0.05)
pool.putconn(conn)
assert waiting.get(timeout=5) is conn
pool.putconn(conn)
print(pool.stats().idle)
"""


def test_pain_37_under_gevent_no_greenlet_blocks_the_hub_and_none_that_is_killed_costs_a_slot(town, tmp_path):
    import_or_skip("gevent")
    assert run(script_of(tmp_path, GREEN, town)) == "1\n"


# ---- 38: without the GIL, on Windows ---------------------------------------------------------------------------------


def test_pain_38_no_connection_has_two_users_whether_or_not_there_is_a_gil(town):
    """On a free-threaded build this runs without the GIL; so do all of tests/stress."""
    users, shared = {}, []

    def work():
        for _ in range(300):
            with pool.connection() as conn:
                if users.setdefault(id(conn), threading.get_ident()) != threading.get_ident():
                    shared.append(conn)
                users.pop(id(conn), None)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadedConnectionPool(0, 3, town.dsn, config={"timeout": 20}) as pool:
            for caller in [Caller(work) for _ in range(8)]:
                caller.result(30)
            assert not shared
            assert adds_up(pool)
            assert pool.stats().leases == 2400
    finally:
        sys.setswitchinterval(switch)


def test_pain_38_it_is_pure_python_and_the_readme_says_what_of_windows():
    compiled = [file for file in PACKAGE.rglob("*") if file.suffix in (".so", ".pyd", ".c", ".pyx")]
    assert compiled == []
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert "Linux is tested; other systems" in readme


# ---- 39: no metrics, no hooks ----------------------------------------------------------------------------------------


def test_pain_39_stats_only_grow_and_add_up(town, make, driver):
    pool = make(town.dsn, 0, 2, driver=driver)
    before = pool.stats()
    for turn in range(30):
        conns = lease(pool, 1 + turn % 2)
        if turn % 3 == 0:
            tell(conns[0], "SELECT 1")
        pool.putconn(conns.pop(), close=turn % 5 == 0)
        put_all(pool, conns)
        with pytest.raises(driver.Error):
            exhaust(pool)
        now = pool.stats()
        for counter in ("leases", "opened", "waits", "waited", "timeouts", "refused", "connect_errors", "aborted"):
            assert getattr(now, counter) >= getattr(before, counter), counter
        assert all(now.discards[reason] >= times for reason, times in before.discards.items())
        assert adds_up(pool)
        before = now
    assert before.leases == 45 + 60
    assert before.discards == {"closed by the caller": 6}


def exhaust(pool):
    conns = lease(pool, 2)
    try:
        pool.getconn(timeout=0)
    finally:
        put_all(pool, conns)


class Rude(PoolListener):
    """Raises whatever it is told, and remembers it."""

    def __init__(self):
        self.told = set()

    def __getattribute__(self, name):
        if name in PoolListener.__dict__ and not name.startswith("_"):

            def tell(*args):
                self.told.add(name)
                raise ValueError(name)

            return tell
        return super().__getattribute__(name)


def test_pain_39_events_are_told_and_a_listener_that_raises_breaks_nothing(town, make, driver, caplog):
    rude = Rude()
    with make(town.dsn, 0, 2, driver=driver, listener=rude) as pool:
        conns = lease(pool, 2)
        with pytest.raises(driver.Error):
            pool.getconn(timeout=0.01)
        waiter = Caller(pool.getconn, timeout=20)
        while not pool.stats().waiting:
            pass
        put_all(pool, conns)
        pool.putconn(waiter.result(), close=True)
        lease_all(pool)
        assert adds_up(pool)
    assert rude.told >= {"connected", "acquired", "released", "waited", "timed_out", "discarded", "closed"}
    assert "acquired() raised" in caplog.text


def test_pain_39_an_adapter_speaks_opentelemetry(town):
    import_or_skip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from dbpool.metrics.opentelemetry import instrument

    reader = InMemoryMetricReader()
    with ThreadedConnectionPool(1, 3, town.dsn) as pool:
        instrument(pool, meter_provider=MeterProvider([reader]))
        (scope,) = [
            scope
            for resource in reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name == "dbpool"
        ]
        read = {metric.name: [point.value for point in metric.data.data_points] for metric in scope.metrics}
    assert read["db.client.connection.max"] == [3]
    assert sorted(read["db.client.connection.count"]) == [0, 1]


def test_pain_39_waits_holds_and_connects_have_histograms_or_sums(town):
    with ThreadedConnectionPool(1, 1, town.dsn, config={"timeout": 20, "detect_deadlock": False}) as pool:
        conn = pool.getconn()
        waiter = Caller(pool.getconn)
        eventually(lambda: pool.stats().waiting)
        tell(conn, "SELECT 1")
        pool.putconn(conn)
        pool.putconn(waiter.result())
        stats = pool.stats()
    assert (stats.wait_times.count, stats.connect_times.count, stats.holds) == (1, 1, 1)
    assert stats.wait_times.sum > 0
    assert 0 < stats.connect_times.sum < 60
    assert 0 < stats.held < 60


# ---- 40: passwords in logs and tracebacks ----------------------------------------------------------------------------

LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789@:/?#%&' \\=é密"
passwords = st.text(LETTERS, min_size=4, max_size=12).map(lambda text: f"s3cr{text}t")


def quoted(password):
    return "'" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"


def words_of(town):
    return dict(word.split("=", 1) for word in town.tcp_dsn.split())


FORMS = {
    "dsn": lambda town, password: ((dsn_of(town, password=quoted(password)),), {}),
    "uri": lambda town, password: (
        (f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{town.port}/postgres",),
        {},
    ),
    "dict": lambda town, password: (({**words_of(town), "password": password},), {}),
    "keywords": lambda town, password: ((), {**words_of(town), "password": password}),
    "callable": lambda town, password: ((lambda: dsn_of(town, password=quoted(password)),), {}),
    "broken dsn": lambda town, password: ((f"{dsn_of(town, password=quoted(password))} nonsense=1",), {}),
    "broken uri": lambda town, password: (
        (f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{town.port}/postgres?nonsense=1",),
        {},
    ),
}


def everything_said(pool, caplog):
    """Return all that the pool tells of itself: as text, in errors, in logs."""
    texts = []
    for timeout in (0, 0.02):
        try:
            pool.getconn(timeout=timeout)
        except Exception as error:
            while error is not None:
                texts += [str(error), repr(error), repr(error.args)]
                error = error.__cause__ or error.__context__
    file = io.StringIO()
    dbpool.dump(file)
    told = [pool, pool.stats(), pool._args, pool._kwargs, vars(pool), vars(pool._opener), pool._config]
    told += [pool.holders(), pool.waiters()]
    return "\n".join([*texts, file.getvalue(), *map(repr, told), *map(str, told), caplog.text])


@pytest.mark.fault(68)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=passwords)
def test_pain_40_no_password_leaves_the_pool(town, driver, caplog, form, password):
    name_socket_for_kingbase(town.dsn)
    caplog.set_level(logging.DEBUG)
    args, kwargs = FORMS[form](town, password)
    pool = ThreadedConnectionPool(0, 1, *args, connect=driver, config={"start": "lazy"}, **kwargs)
    said = everything_said(pool, caplog)
    assert pool.stats().connect_errors, "nothing was refused"
    pool.close()
    for secret in (password, quoted(password), quote(password, safe="")):
        assert secret not in said


def test_pain_40_no_password_is_in_what_a_misplaced_argument_raises(town):
    for wrong in (lambda: ThreadedConnectionPool(town.tcp_dsn, 1, 2), lambda: SimpleConnectionPool(1, town.tcp_dsn)):
        with pytest.raises((TypeError, ValueError)) as caught:
            wrong()
        assert town.installation.password not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        ThreadedConnectionPool(1, 2, config=town.tcp_dsn)
    assert town.installation.password not in str(caught.value)


@pytest.mark.fault(68)
def test_pain_40_a_working_pool_tells_no_password_either(town, driver, caplog):
    caplog.set_level(logging.DEBUG)
    with ThreadedConnectionPool(0, 1, town.tcp_dsn, connect=driver, config={"detect_deadlock": False}) as pool:
        warm(pool)
        with pool.connection() as conn:
            assert ask(conn, "SELECT 1") == 1
            said = everything_said(pool, caplog)
    assert "1 used" in said
    assert town.installation.password not in said
