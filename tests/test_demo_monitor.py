"""``python -m dbpool monitor``: the load, the page beside it, trouble for real, and an end that leaves nothing."""

from __future__ import annotations

import json
import re
import signal
import socket
from contextlib import ExitStack, closing
from urllib.request import urlopen

import pytest
from servers import import_or_skip
from test_demo import run, schemas_left, start
from unit.threads import Caller, eventually

from dbpool import cli
from dbpool.demo.bank import bank_for
from dbpool.demo.monitor import CONFIG
from dbpool.demo.trouble import RelayOutage, Trouble, outage_of
from dbpool.demo.visitors import Visitors, report, transfer
from dbpool.monitor import server as monitor_server

# Ours, and sqlite3's own from Python 3.13 on.
LEAKS = "ignore:.*a connection was dropped without putconn|unclosed database:ResourceWarning"
ADDRESS = r"http://127\.0\.0\.1:\d+/"


def pools_at(address):
    with urlopen(f"{address}json", timeout=60) as answer:
        return {pool["name"]: pool for pool in json.load(answer)["pools"]}


def shown(*arguments, env=None):
    """Start it, and press Ctrl-C once its pools have been used; return its status."""
    with start("monitor", "--port", "0", *arguments, env=env or {}) as process:
        (address,) = re.findall(ADDRESS, process.stdout.readline())
        assert f"python -m dbpool top {address}" in process.stdout.readline()
        with urlopen(address, timeout=60) as page:
            assert page.headers["Content-Type"].startswith("text/html")
        eventually(lambda: all(pool["stats"]["leases"] > 3 for pool in pools_at(address).values()))
        assert set(pools_at(address)) == {"orders", "reports"}
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert err == ""
    return process.returncode


def test_a_load_is_shown_until_ctrl_c_and_nothing_is_left(tmp_path):
    assert shown(env={"TMPDIR": str(tmp_path)}) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_load_is_shown_on_postgres_and_the_schema_is_dropped(server):
    psycopg2 = import_or_skip("psycopg2")
    assert shown("--trouble", env={cli.DEMO_DSN: server.dsn}) == 0
    assert schemas_left(psycopg2, server.dsn) == []


def test_it_ends_when_the_time_is_up():
    status, out, err = run("monitor", "--port", "0", "--seconds", "0.5", "--trouble")
    assert (status, err) == (0, "")
    assert "sqlite3" in out


def test_a_port_that_is_taken_is_told_and_the_usual_one_is_replaced(monkeypatch, capsys):
    monkeypatch.delenv(cli.DEMO_DSN, raising=False)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["monitor", "--port", str(port), "--seconds", "0.1"]) == 1
        assert f"port {port}: " in capsys.readouterr().err
        monkeypatch.setattr("dbpool.demo.monitor.PORT", port)
        assert cli.main(["monitor", "--seconds", "0.1"]) == 0
        (address, _) = re.findall(ADDRESS, capsys.readouterr().out)
        assert f":{port}/" not in address
    assert monitor_server.PORT == 8765


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "-1"], ["--seconds", "0"], ["x"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["monitor", *arguments])
    assert ended.value.code == 2


def test_a_database_that_cannot_be_reached_is_told_without_its_password(capsys):
    import_or_skip("psycopg2")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    dsn = f"host=127.0.0.1 port={port} user=me password=hunter2"
    assert cli.main(["monitor", "--port", "0", "--dsn", dsn]) == 1
    err = capsys.readouterr().err
    assert err.startswith("dbpool monitor: OperationalError")
    assert "hunter2" not in err


# ---- trouble ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite3", "postgres"])
def troubled(request, monkeypatch):
    """A pool in use, and the trouble that it may get into."""
    monkeypatch.setattr("dbpool.demo.trouble.HOLD", 0.2)
    dsn = None
    if request.param == "postgres":
        import_or_skip("psycopg2")
        dsn = request.getfixturevalue("server").dsn
    bank = bank_for(dsn)
    with bank.opened(), ExitStack() as stack:
        outage = outage_of(bank)
        orders = stack.enter_context(closing(bank.new_pool(4, **{**CONFIG, "leak_threshold": 0.5})))
        other = stack.enter_context(closing(bank.new_pool(2, **CONFIG)))
        for name, pool, visit in (("visitor", orders, transfer), ("reporter", other, report)):
            visitors = Visitors(name, 2, visit(pool, bank, 0.01), 0.01, bank.error)
            stack.callback(visitors.stop)
            visitors.start()
        trouble = Trouble(orders, [other], bank, outage, lambda said: None, scene=600)
        stack.callback(trouble.stop)
        yield orders, other, trouble


def until_it_is(pool, code, scene, trouble):
    """Begin a scene, wait until the verdict is *code*, and end the scene."""
    playing = Caller(scene)
    eventually(lambda: pool.verdict().code == code)
    trouble.stop()
    playing.result(60)
    return pool


def test_the_pool_is_exhausted(troubled):
    orders, _, trouble = troubled
    until_it_is(orders, "exhausted", trouble.exhaustion, trouble)
    eventually(lambda: orders.verdict().code == "healthy")


@pytest.mark.filterwarnings(LEAKS)
def test_connections_are_leaked(troubled):
    orders, _, trouble = troubled
    until_it_is(orders, "leak_suspected", trouble.leak, trouble)
    assert orders.stats().leaks + orders.stats().long_leases > 0
    assert "trouble.py" in orders.verdict().place


def test_the_database_is_down_and_comes_back(troubled):
    orders, other, trouble = troubled
    playing = Caller(trouble.down)
    for pool in (orders, other):
        eventually(lambda pool=pool: pool.verdict().code == "database_refuses")
    trouble.stop()
    playing.result(60)
    for pool in (orders, other):
        leases = pool.stats().leases
        eventually(lambda pool=pool: pool.verdict().code == "healthy")
        eventually(lambda pool=pool, leases=leases: pool.stats().leases > leases)


def test_the_database_is_frozen_and_goes_on(troubled):
    orders, _, trouble = troubled
    if not isinstance(trouble._outage, RelayOutage):
        pytest.skip("a file does not freeze")
    until_it_is(orders, "database_slow", trouble.frozen, trouble)
    leases = orders.stats().leases
    eventually(lambda: orders.stats().leases > leases)


@pytest.mark.filterwarnings(LEAKS)
def test_the_scenes_follow_each_other(monkeypatch):
    for name in ("HOLD", "FORGETS"):
        monkeypatch.setattr(f"dbpool.demo.trouble.{name}", 0.01)
    said = []
    bank = bank_for(None)
    with bank.opened(), closing(bank.new_pool(2, **CONFIG)) as pool:
        trouble = Trouble(pool, [], bank, outage_of(bank), said.append, scene=0.01, calm=0.01)
        trouble.start()
        eventually(lambda: len([line for line in said if line.startswith("exhaustion")]) == 2)
        trouble.stop()
    names = [line.split(":")[0] for line in said if line != "over"]
    assert names[:4] == ["exhaustion", "leak", "database down", "exhaustion"]
