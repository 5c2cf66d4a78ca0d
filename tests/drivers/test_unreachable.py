"""Servers reached and not reached: by which arguments, through which host; whose error it is; how many are seen."""

from __future__ import annotations

import contextlib
import socket
import time
from contextlib import closing

import pytest
from asking import ask
from unit.checks import lease_all
from unit.threads import Caller

from dbpool import ThreadedConnectionPool

# ---- a server that cannot be reached -----------------------------------------------------------------------


def dsn_of(cluster, **changed):
    """Return the cluster's TCP DSN with some of its words changed."""
    words = dict(word.split("=", 1) for word in cluster.tcp_dsn.split())
    return " ".join(f"{name}={value}" for name, value in {**words, **changed}.items())


UNREACHABLE = {
    "wrong password": ({"password": "hunter2"}, "password authentication failed"),
    "unknown database": ({"dbname": "nowhere"}, "does not exist"),
    "unknown user": ({"user": "nobody_here"}, "nobody_here"),
    "host not resolved": ({"host": "no-such-host.invalid"}, "could not translate|resolve"),
    "refused port": ({"port": "1"}, "refused"),
}


@pytest.mark.parametrize("case", UNREACHABLE)
@pytest.mark.parametrize("minconn", [0, 2], ids=["getconn", "constructor"])
def test_what_cannot_be_reached_is_the_drivers_own_error_at_once(tcp, kind, caplog, case, minconn):
    import psycopg2

    changed, text = UNREACHABLE[case]
    secret = changed.get("password", tcp.installation.password)
    dsn, started = dsn_of(tcp, **changed), time.monotonic()
    timeout = 0 if case == "refused port" else 60  # who has time waits for a server that may come back
    with pytest.raises(psycopg2.OperationalError, match=text) as caught:
        kind(minconn, 2, dsn, config={"timeout": timeout, "connect_timeout": 60}).getconn()
    assert time.monotonic() - started < 30
    assert type(caught.value) is psycopg2.OperationalError
    assert secret not in str(caught.value) + repr(caught.value) + caplog.text


@pytest.mark.parametrize("case", UNREACHABLE)
def test_a_pool_that_could_not_reach_its_server_has_lost_no_slot(tcp, kind, case):
    import psycopg2

    changed, _ = UNREACHABLE[case]
    reachable = []
    timeout = 0 if case == "refused port" else 60
    pool = kind(0, 2, lambda: dsn_of(tcp, **({} if reachable else changed)), config={"timeout": timeout})
    for _ in range(3):
        with pytest.raises(psycopg2.OperationalError):
            pool.getconn()
    assert (pool.stats().size, pool.stats().connect_errors) == (0, 3)
    reachable.append(True)
    lease_all(pool)
    pool.close()


def test_a_time_out_after_a_wrong_password_tells_the_cause_but_not_the_password(tcp):
    import psycopg2

    changed = {}
    pool = ThreadedConnectionPool(0, 2, lambda: dsn_of(tcp, **changed))
    conn = pool.getconn()
    changed["password"] = "hunter2"
    with pytest.raises(psycopg2.Error, match="exhausted") as caught:
        pool.getconn(timeout=0.1)  # one is open, and may come back
    assert "password authentication failed" in str(caught.value.__cause__)
    assert "hunter2" not in str(caught.value) + str(caught.value.__cause__) + repr(pool) + repr(vars(pool))
    pool.putconn(conn)
    pool.close()


def test_psycopg2_is_the_default_and_looked_up_each_time(tcp, kind, monkeypatch):
    import psycopg2

    pool, real, seen = kind(0, 1, tcp.tcp_dsn), psycopg2.connect, []
    monkeypatch.setattr(psycopg2, "connect", lambda *args, **kwargs: seen.append(args) or real(*args, **kwargs))
    pool.putconn(pool.getconn())
    assert seen == [(tcp.tcp_dsn,)]
    pool.close()


def test_a_dict_is_taken_as_keywords(tcp, kind):
    words = dict(word.split("=", 1) for word in tcp.tcp_dsn.split())
    with kind(1, 1, words) as pool, pool.connection() as conn:
        assert ask(conn, "SELECT 1") == 1


def test_the_server_never_sees_more_than_maxconn(tcp):
    """Not even while connections are closed and replaced all the time: but for backends that are on their way out.

    libpq's close() does not wait for the backend to exit, which takes a moment on a busy machine. That a slot is held
    until close() has returned is tested with a server that counts exactly, under tests/schedules.
    """
    with ThreadedConnectionPool(0, 3, tcp.tcp_dsn, application_name="counted") as pool:

        def work():
            for _ in range(10):
                pool.putconn(pool.getconn(timeout=30), close=True)

        with closing(__import__("psycopg2").connect(tcp.tcp_dsn)) as watcher:
            watcher.autocommit = True
            callers, most = [Caller(work) for _ in range(8)], 0
            while not all(caller.ended for caller in callers):
                most = max(most, ask(watcher, "SELECT count(*) FROM pg_stat_activity WHERE application_name='counted'"))
        for caller in callers:
            caller.result()
        assert 1 <= most <= 3 + 3


# ---- several hosts -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def deaf():
    """A port whose queue is full: whoever connects to it hears nothing."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.parametrize("form", ["words", "uri", "keywords"])
def test_the_first_of_two_hosts_does_not_take_all_the_time(tcp, kind, form):
    with deaf() as port:
        ports, hosts = f"{port},{tcp.port}", "127.0.0.1,127.0.0.1"
        words = dict(word.split("=", 1) for word in tcp.tcp_dsn.split())
        uri = f"postgresql://postgres:{words['password']}@127.0.0.1:{port},127.0.0.1:{tcp.port}/postgres"
        args, kwargs = {
            "words": ((dsn_of(tcp, host=hosts, port=ports),), {}),
            "uri": ((uri,), {}),
            "keywords": ((), {**words, "host": hosts, "port": ports}),
        }[form]
        pool = kind(0, 1, *args, config={"timeout": 10, "connect_timeout": 5}, **kwargs)
        conn = pool.getconn()
        assert conn.info.port == tcp.port
        pool.putconn(conn)
        pool.close()


def test_a_connect_timeout_of_the_users_own_is_left_alone(monkeypatch):
    import psycopg2

    seen = []
    monkeypatch.setattr(psycopg2, "connect", lambda *args, **kwargs: seen.append(kwargs) or 1 / 0)
    for args, kwargs in (
        (("host=a,b connect_timeout=3",), {}),
        (("host=a,b",), {"connect_timeout": 3}),
        (("host=a",), {"connect_timeout": 3}),
        ((), {"host": "a", "connect_timeout": 3}),
    ):
        with pytest.raises(ZeroDivisionError):
            ThreadedConnectionPool(1, 1, *args, **kwargs)
        assert seen.pop() == kwargs
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    with pytest.raises(ZeroDivisionError):
        ThreadedConnectionPool(1, 1, "host=a,b")
    assert seen == [{}]


@pytest.mark.parametrize(("seconds", "told"), [(10, 11), (0.5, 2), (None, None)])
def test_libpq_is_told_to_end_a_connect_that_the_pool_has_left_behind(monkeypatch, seconds, told):
    import psycopg2

    from dbpool.psycopg2 import ThreadedConnectionPool as Twin

    seen = []
    monkeypatch.setattr(psycopg2, "connect", lambda *args, **kwargs: seen.append(kwargs) or 1 / 0)
    for kind in (ThreadedConnectionPool, Twin):
        with pytest.raises(ZeroDivisionError):
            kind(1, 1, "host=a", config={"connect_timeout": seconds})
    assert seen == [{} if told is None else {"connect_timeout": told}, {}]  # the twins' connect is the user's own
