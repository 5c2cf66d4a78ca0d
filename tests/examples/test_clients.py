"""The examples that pool something else, run for real: MySQL's proxies, Redis, Thrift."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from pains.sessions import MARGIN, Stopwatch
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolError, PoolExhausted, PoolTimeout, ThreadedConnectionPool

from .test_asynchronous import started
from .test_web import load

# ---- MySQL -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["MySQLdb", "pymysql"])
def mysql(request, mariadb, monkeypatch):
    """What the example reads of the environment, for each driver."""
    import_or_skip(request.param)
    environ = {
        "MYSQL_DRIVER": request.param,
        "MYSQL_SOCKET": mariadb["unix_socket"],
        "MYSQL_USER": mariadb["user"],
        "MYSQL_DATABASE": mariadb["database"],
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return environ


def test_the_mysql_example_writes_what_it_says(mysql):
    told = started("mysql_proxy.py", **mysql).splitlines()
    assert [line.partition(":")[0] for line in told] == ["pool_by_subclass", "pool_by_functions"]
    for line in told:
        assert "100 notes, the last is 'note seven', by " in line
        assert 1 <= int(line.split()[-2]) <= 3


@pytest.mark.parametrize("make", ["pool_by_subclass", "pool_by_functions"])
def test_a_mysql_proxy_that_is_dropped_gives_its_connection_back_with_the_defaults(mysql, make):
    example = load("mysql_proxy")
    with getattr(example, make)(1) as pool:
        proxy = pool.connect()
        raw = proxy.raw
        cursor = proxy.cursor()
        cursor.execute("SELECT @@autocommit AS autocommit, @@character_set_client AS charset")
        assert cursor.fetchall() in (
            [{"autocommit": 1, "charset": "utf8mb4"}],
            ({"autocommit": 1, "charset": "utf8mb4"},),
        )
        proxy.begin()
        cursor.execute("SELECT count(*) AS n FROM db")
        del proxy, cursor
        again = pool.connect(timeout=5)
        assert again.raw is raw
        cursor = again.cursor(example.cursors.Cursor)
        cursor.execute("SELECT @@in_transaction")
        assert cursor.fetchone() == (0,)
        again.close()
        assert pool.stats().opened == 1


def test_the_functions_of_the_mysql_example_create_and_destroy(mysql, monkeypatch):
    example = load("mysql_proxy")
    destroyed = []
    monkeypatch.setattr(example, "destroy", lambda conn: destroyed.append(conn) or conn.close())
    with example.pool_by_functions(2) as pool:
        lease_all(pool)
    assert len(destroyed) == 2


# ---- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def example():
    """The example as a module."""
    return load("redis_connector")


@pytest.fixture
def make(redis, example):
    """Makes pools of connections to the test's own server."""

    def make(maxconn=2, **options):
        config = {"timeout": 5, **options}
        return ThreadedConnectionPool(
            0, maxconn, "127.0.0.1", redis.port, connect=example.RedisConnector(), config=config
        )

    return make


def number_of(conn):
    """Return the server's number of the connection."""
    return conn.do("CLIENT", "ID")


def test_the_redis_example_counts_right(redis):
    assert started("redis_connector.py", "127.0.0.1", redis.port).startswith("0 + 1 + ... + 100 = 5050 by ")


def test_a_connection_to_redis_comes_back_as_new(make):
    with make(1) as pool:
        with pool.connection() as conn:
            conn.do("SELECT", 3)
            conn.do("MULTI")
            assert conn.do("SET", "a", 1) == "QUEUED"
        with pool.connection() as again:
            assert again is conn
            assert again.do("GET", "a") is None
            assert again.do("SET", "a", "☃") == "OK"
            assert not again.changed  # a command that leaves nothing behind costs no reset
            assert again.do("GET", "a") == "☃"
            assert again.do("MGET", "a", "b") == ["☃", None]


def test_what_redis_refuses_is_raised_and_the_connection_is_kept(make, example):
    with make(1) as pool:
        with pytest.raises(example.RedisError, match="unknown command"), pool.connection() as conn:
            conn.do("NONSENSE")
        assert pool.getconn() is conn
        with pytest.raises(example.RedisError) as caught:
            pool.getconn(timeout=0)
        assert isinstance(caught.value, PoolExhausted)
        pool.putconn(conn)


def test_a_redis_that_is_started_again_is_waited_for(make, redis, example):
    with make(2, check_after=0) as pool:
        lease_all(pool)
        redis.stop()
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=2)
        assert isinstance(caught.value.__cause__, example.RedisError)
        caller = Caller(pool.getconn, timeout=20)
        errors = pool.stats().connect_errors
        eventually(lambda: pool.stats().connect_errors > errors)
        redis.start()
        conn = caller.result(20)
        assert conn.do("PING") == "PONG"
        pool.putconn(conn)
        del conn
        lease_all(pool)
        assert adds_up(pool)


def test_a_connection_that_redis_cuts_while_it_is_used_is_not_pooled(make):
    with make(2) as pool:
        conn, other = pool.getconn(), pool.getconn()
        other.do("CLIENT", "KILL", "ID", number_of(conn))
        with pytest.raises(Exception, match="LOST"):
            conn.do("PING")
        pool.putconn(conn)
        pool.putconn(other)
        assert pool.stats().discards == {"lost": 1}
        lease_all(pool)


def test_a_redis_that_hangs_costs_check_timeout(make, redis):
    with make(1, ping_after=0, check_timeout=0.3) as pool:
        lease_all(pool)
        with redis.frozen():
            with Stopwatch() as watch, pytest.raises(PoolError):
                pool.getconn(timeout=0.8)
            assert watch.seconds < 0.8 + MARGIN
        lease_all(pool)


def test_a_full_redis_is_waited_for_and_a_wrong_password_is_not(make, redis, example):
    admin = example.Redis("127.0.0.1", redis.port)
    admin.do("CONFIG", "SET", "maxclients", 2)
    second = example.Redis("127.0.0.1", redis.port)
    second.do("PING")
    with make(1) as pool:
        caller = Caller(pool.getconn, timeout=20)
        eventually(lambda: pool.stats().connect_errors >= 2)
        second.close()
        pool.putconn(caller.result(20))
    admin.do("CONFIG", "SET", "requirepass", "secret")
    with make(1) as pool, pytest.raises(example.RedisError, match="NOAUTH"):
        pool.getconn(timeout=60)
    admin.close()


def test_a_redis_that_takes_no_writes_any_more(make, redis):
    with make(1, role="read-write") as pool, make(1) as admin:
        with pool.connection() as conn:
            conn.do("SET", "a", 1)
        with admin.connection() as conn:
            conn.do("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(Exception, match="READONLY"), pool.connection() as conn:
            conn.do("SET", "a", 2)
        assert pool.stats().discards == {"read-only": 1}
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.3)
        with admin.connection() as conn:
            conn.do("REPLICAOF", "NO", "ONE")
        with pool.connection() as conn:
            assert conn.do("SET", "a", 2) == "OK"


def test_idle_connections_to_redis_are_kept_alive(make, redis):
    with make(1) as admin, admin.connection() as conn:
        conn.do("CONFIG", "SET", "timeout", 1)
        conn.do("CLIENT", "NO-EVICT", "ON")
    with make(1, ping_interval=0.2) as pool, make(1, idle_timeout=None, ping_interval=None) as quiet:
        for each in (pool, quiet):
            lease_all(each)
        with pool.connection() as conn:
            number = number_of(conn)
        del conn
        eventually(lambda: sum(quiet.stats().discards.values()) == 1)  # it was not kept alive
        with pool.connection() as conn:
            assert number_of(conn) == number


# ---- Thrift ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def thrift():
    """The example as a module."""
    import_or_skip("thriftpy2")
    return load("thrift_pool")


@pytest.fixture
def pool(thrift):
    """A pool of two clients, and their server."""
    connector = thrift.ThriftConnector()
    with thrift.serving() as port:
        with ThreadedConnectionPool(0, 2, "127.0.0.1", port, connect=connector, config=thrift.CONFIG) as pool:
            yield pool


def test_the_thrift_example_divides(thrift):
    assert started("thrift_pool.py").startswith("by zero [100, 50, 33, 25] by ")


def test_an_error_that_was_agreed_on_keeps_the_client(thrift, pool):
    with pytest.raises(thrift.calculator.DivisionByZero), thrift.client_of(pool) as client:
        client.divide(1, 0)
    with thrift.client_of(pool) as again:
        assert again is client
        assert again.divide(7, 2) == 3


def test_an_error_of_the_transport_closes_the_client(thrift, pool):
    def divide():
        with thrift.client_of(pool) as client:
            used.append(client)
            client.socket.sock.shutdown(2)
            client.divide(1, 1)

    used = []
    with pytest.raises((thrift.TTransportException, OSError)):
        divide()
    assert sum(pool.stats().discards.values()) == 1
    with thrift.client_of(pool) as again:
        assert again is not used[0]
        assert again.divide(7, 2) == 3


def test_an_idle_client_that_does_not_answer_the_ping_is_replaced(thrift, pool):
    with thrift.client_of(pool) as client:
        client.Ping()
    client.socket.sock.shutdown(2)
    with thrift.client_of(pool) as again:
        assert again is not client
        assert again.Ping() == "pong"
    assert sum(pool.stats().discards.values()) == 1


def test_a_ping_is_sent_before_each_use(thrift, pool, monkeypatch):
    lease_all(pool)
    pings = []
    monkeypatch.setattr(thrift.ThriftConnector, "ping", lambda self, client: pings.append(client.Ping()))
    for number in range(1, 4):
        assert thrift.divide(pool, 9, 3) == 3
        assert pings == ["pong"] * number


def test_many_threads_share_two_clients(thrift, pool):
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda by: thrift.divide(pool, 100, by), range(1, 100)))
    assert found == [100 // by for by in range(1, 100)]
    assert pool.stats().opened <= 2
    gc.collect()
    lease_all(pool)


def test_a_server_that_is_not_there_is_waited_for(thrift):
    with thrift.serving() as port:
        pass
    with ThreadedConnectionPool(0, 1, "127.0.0.1", port, connect=thrift.ThriftConnector()) as pool:
        with pytest.raises(PoolTimeout) as caught:
            pool.getconn(timeout=2)
        assert isinstance(caught.value, thrift.TException)
        assert pool.stats().connect_errors >= 2
