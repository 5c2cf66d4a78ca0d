"""The examples of what else can be pooled, run as their docstrings say: sockets, letters, a file; and their metrics."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager

import pytest
from servers import import_or_skip, require_or_skip
from unit.hosts import closed_port
from unit.threads import Caller, eventually

from dbpool import PoolTimeout

from .test_asynchronous import started
from .test_web import EXAMPLES, ROOT, load


def need_openssl():
    if shutil.which("openssl") is None:
        require_or_skip("openssl", "the program is not installed")


# ---- each with its own server ----------------------------------------------------------------------------------------

SAID = {
    "tcp_pool.py": r"200 answers over [123] connections\n",
    "unix_pool.py": r"200 answers, by connection:( \d+){1,3}\n",
    "async_tcp_pool.py": r"190 of 200 were answered, nobody was given another's answer\n",
}


@pytest.mark.parametrize("name", SAID)
def test_the_example_says_what_it_should(name):
    assert re.fullmatch(SAID[name], started(name))


def test_the_example_of_tls_is_encrypted_and_refuses_a_wrong_name():
    need_openssl()
    said = started("tls_pool.py")
    assert re.search(r"(?m)^50 answers over [123] connections, TLSv1", said)
    assert re.search(r"refused: (server: SSLError\n)?no TLS with localhost:\d+: .*mismatch", said)


def test_the_example_of_letters_sends_each_once():
    import_or_skip("aiosmtpd")
    first, second = started("smtp_pool.py").splitlines()
    assert re.fullmatch(r"30 letters in [123] sessions", first)
    assert second == "30 different ones arrived"


def test_the_example_of_a_file_sells_nothing_twice(tmp_path):
    path = tmp_path / "shop.db"
    assert started("sqlite_pool.py", path) == "100 sold, (0, 100) in stock and in the books\n"
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# ---- with a server that is there already -----------------------------------------------------------------------------


@contextmanager
def serving(name, *arguments):
    """The example's server in a process of its own."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), "--serve", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def answers_at(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("name", ["tcp_pool.py", "async_tcp_pool.py"])
def test_the_server_of_one_process_serves_the_pool_of_another(name):
    port = closed_port()
    with serving(name, port):
        eventually(lambda: answers_at(port))
        assert re.fullmatch(SAID[name], started(name, "127.0.0.1", port))


def test_so_does_that_of_a_unix_socket(tmp_path):
    path = tmp_path / "socket"
    with serving("unix_pool.py", path):
        eventually(path.exists)
        assert re.fullmatch(SAID["unix_pool.py"], started("unix_pool.py", path))


def test_so_does_that_of_tls(tmp_path):
    need_openssl()
    port = closed_port()
    with serving("tls_pool.py", port, tmp_path):
        eventually(lambda: answers_at(port))
        assert "TLSv1" in started("tls_pool.py", "localhost", port, tmp_path / "server.crt")


# ---- letters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def post(request):
    """The example as a module, and a server to which it can send."""
    import_or_skip("aiosmtpd")
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Debugging

    class Post(Debugging):
        commands: list[str] = []  # noqa: RUF012

        async def handle_RSET(self, server, session, envelope):  # noqa: N802
            self.commands.append("RSET")
            return "250 OK"

        async def handle_NOOP(self, server, session, envelope, arg):  # noqa: N802
            self.commands.append("NOOP")
            return "250 OK"

        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            self.commands.append("DATA")
            return "250 OK"

    Post.commands = []
    controller = Controller(Post(), hostname="127.0.0.1", port=closed_port())
    controller.start()
    yield load("smtp_pool"), controller
    controller.stop()


def test_noop_is_the_ping_and_rset_the_reset(post):
    example, controller = post
    with example.open_pool("127.0.0.1", controller.port, ping_after=0) as pool:
        for number in range(3):
            example.send(pool, number)
        assert controller.handler.commands == ["NOOP", "DATA", "RSET"] * 3
        assert pool.stats().opened == 1


def test_a_letter_that_was_begun_is_forgotten(post):
    example, controller = post
    with example.open_pool("127.0.0.1", controller.port) as pool:
        conn = pool.getconn()
        conn.mail("somebody@example.com")
        pool.putconn(conn)
        example.send(pool, 1)  # else: 503, nested MAIL command
        assert pool.getconn() is conn
        pool.putconn(conn)


def test_a_session_that_the_server_has_ended_is_replaced(post):
    example, controller = post
    with example.open_pool("127.0.0.1", controller.port) as pool:
        with pool.connection() as conn:
            accepted = conn
        accepted.sock.shutdown(socket.SHUT_RDWR)
        example.send(pool, 1)
        assert pool.stats().opened == 2


def test_no_server_is_an_error_of_smtplib_too(post):
    example, _ = post
    with example.open_pool("127.0.0.1", closed_port(), timeout=0.05) as pool:
        with pytest.raises(example.smtplib.SMTPException) as caught:
            pool.getconn()
        assert isinstance(caught.value, PoolTimeout)


# ---- a file ----------------------------------------------------------------------------------------------------------


def test_who_writes_waits_for_who_writes_and_readers_for_nobody(tmp_path):
    example = load("sqlite_pool")
    with example.open_pool(str(tmp_path / "shop.db")) as pool:
        example.fill(pool)
        with pool.connection() as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("UPDATE stock SET number = 1")
            assert example.count(pool) == (100, 0)
            waiting = Caller(example.sell, pool)
            eventually(lambda: pool.stats().used == 2)
        assert waiting.result() is True
        assert example.count(pool) == (0, 1)
        assert example.sell(pool) is False


def test_each_connection_is_prepared(tmp_path):
    example = load("sqlite_pool")
    with example.open_pool(str(tmp_path / "shop.db")) as pool:
        example.fill(pool)
        conns = [pool.getconn() for _ in range(4)]
        for conn in conns:
            assert conn.execute("PRAGMA foreign_keys").fetchone() == (1,)
            pool.putconn(conn)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def scraped(port):
    """Return what a scrape tells, by name and labels but for the pool's."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("pool") == "shop"
            found[(sample.name, *labels.values())] = sample.value
    return found


def test_a_scrape_tells_what_has_happened_in_the_pool(tmp_path):
    prometheus_client = import_or_skip("prometheus_client")
    example = load("hooks_prometheus")
    registry = prometheus_client.CollectorRegistry()
    pool = example.open_pool(str(tmp_path / "shop.db"), registry, leak_threshold=1e-6, ping_interval=None)
    port = closed_port()
    served = prometheus_client.start_http_server(port, "127.0.0.1", registry)
    conns = [pool.getconn() for _ in range(3)]
    with pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.01)
    waiting = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    told = scraped(port)
    assert told["dbpool_connections", "used"] == 3
    assert told["dbpool_connections", "waiting"] == 1
    pool.putconn(conns.pop(), close=True)
    conns.append(waiting.result())
    pool.check()
    for conn in conns:
        pool.putconn(conn)
    told = scraped(port)
    assert told["dbpool_connect_seconds_count",] == 4
    assert told["dbpool_lease_seconds_count",] == 4
    assert told["dbpool_wait_seconds_count",] >= 1
    assert told["dbpool_timeouts_total",] == 1
    assert told["dbpool_discards_total", "closed by the caller"] == 1
    assert told["dbpool_leaks_total",] >= 3  # each lease is told of once, by check() if not before
    assert told["dbpool_connections", "idle"] == 3
    pool.close()
    if served is not None:  # older ones return nothing, and their thread ends with the process
        server, thread = served
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_connect_that_fails_is_counted_by_its_error(tmp_path):
    prometheus_client = import_or_skip("prometheus_client")
    example = load("hooks_prometheus")
    registry = prometheus_client.CollectorRegistry()
    with pytest.raises(sqlite3.OperationalError):
        example.open_pool(str(tmp_path / "no such folder" / "shop.db"), registry)
    name, labels = "dbpool_connect_failures_total", {"pool": "shop", "error": "OperationalError"}
    assert registry.get_sample_value(name, labels) == 1


def test_the_example_serves_its_metrics(tmp_path):
    import_or_skip("prometheus_client")
    port = closed_port()
    command = [sys.executable, str(EXAMPLES / "hooks_prometheus.py"), str(port), str(tmp_path / "shop.db")]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            eventually(lambda: answers_at(port))
            eventually(lambda: scraped(port).get(("dbpool_lease_seconds_count",), 0) >= 1)
        finally:
            process.kill()


def test_the_example_for_prometheus_serves_all_pools(tmp_path):
    import_or_skip("prometheus_client")
    port = closed_port()
    command = [sys.executable, str(EXAMPLES / "metrics_prometheus.py"), str(port), str(tmp_path / "shop.db")]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            eventually(lambda: answers_at(port))
            eventually(lambda: scraped(port).get(("dbpool_leases_total",), 0) >= 2)
            assert scraped(port)["dbpool_connections_max",] == 3
        finally:
            process.kill()


def test_the_example_for_opentelemetry_writes_metrics_by_the_names_of_the_conventions(tmp_path):
    import_or_skip("opentelemetry.sdk.metrics")
    said = started("metrics_opentelemetry.py", tmp_path / "shop.db")
    metrics = json.JSONDecoder().raw_decode(said)[0]["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    found = {metric["name"].removeprefix("db.client.connection."): metric["data"]["data_points"] for metric in metrics}
    assert found["max"][0]["value"] == 3
    assert found["use_time"][0]["count"] == 100
    assert found["count"][0]["attributes"]["db.client.connection.pool.name"] == "shop"
