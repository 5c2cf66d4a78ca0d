"""Names and texts that are somebody else's: nothing in them moves a cursor, begins a line, or ends an event."""

from __future__ import annotations

import json
import threading

import pytest
from fakes import FakeConnector, OperationalError
from servers import import_or_skip
from unit.threads import eventually

from dbpool import ThreadedConnectionPool

HOSTILE = [
    "<script>alert(1)</script>",
    "line\r\nline\ndata: {}\n\nevent: state\n",
    "\x1b[31mred\x1b[0m",
    'quote" back\\slash {brace="',
    "\u202egnp.exe\u2028\u2029\x00\x7f",
    "\ud800 lone",
    "x" * 10_000,
]
KINDS = {"state": "/json", "metrics": "/metrics", "bundle": "/bundle"}


def texts(value):
    """Return all texts in a document."""
    if isinstance(value, dict):
        return [text for each in value.items() for part in each for text in texts(part)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.fault(70)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stands_in_one_line_that_can_be_shown(routes, make, text, driver):
    pool = make(name=text, timeout=60, maxconn=1, trace=True)
    client = routes(pools=[pool])
    held = pool.getconn("key " + text)
    waiter = threading.Thread(target=lambda: pool.putconn(pool.getconn()), name=text.replace("\0", ""))
    waiter.start()
    eventually(lambda: pool.stats().waiting == 1)
    client.state()
    pool.putconn(held, "key " + text)
    waiter.join()
    for path in KINDS.values():
        answer = client.ask(path, query="history=1" if path == "/json" else "")
        assert answer.status == 200
        lines = answer.body.decode("ascii" if path != "/metrics" else "utf-8").split("\n")
        assert all(line.isprintable() for line in lines)
        if path != "/metrics":
            assert all(each.isprintable() for each in texts(json.loads(answer.body)))


@pytest.mark.fault(70)
@pytest.mark.parametrize("text", HOSTILE[:5], ids=range(5))
def test_what_a_hostile_server_says_stands_in_one_line(routes, text, driver):
    def connect(*args, **kwargs):
        raise OperationalError(f"FATAL: {text} password=hunter22")

    pool = ThreadedConnectionPool(0, 1, connect=FakeConnector(connect), config={"start": "lazy", "timeout": 0})
    client = routes(pools=[pool])
    client.state()
    with pytest.raises(OperationalError):
        pool.getconn()
    found = client.pool()
    told = [found["backoff"]["last_error"], found["events"][0]["text"], found["verdict"]["text"]]
    assert all("FATAL" in each and each.isprintable() and "hunter22" not in each for each in told)
    assert b"hunter22" not in client.ask("/bundle").body
    pool.closeall()


@pytest.mark.fault(70, 72)
def test_a_long_error_is_cut(routes, make, driver):
    pool = make(timeout=0)
    client = routes(pools=[pool])
    client.state()

    def connect(*args, **kwargs):
        raise OperationalError("x" * 1_000_000)

    pool._opener._source._connect = connect
    with pytest.raises(OperationalError):
        pool.getconn()
    assert len(client.ask("/json").body) < 20_000


@pytest.mark.fault(70)
@pytest.mark.parametrize("text", HOSTILE[:5], ids=range(5))
def test_a_stream_has_one_line_of_data_whatever_a_pool_is_called(routes, make, text):
    client = routes(pools=[make(name=text)])
    client.sampler.look()
    feed = client.ask("/events").stream
    first = feed.first().decode("ascii").split("\n\n")
    assert [part.count("\n") for part in first] == [0, 1, 0]
    assert len(json.loads(first[1].partition("data: ")[2])["state"]["pools"]) == 1
    feed.close()


@pytest.mark.fault(70)
@pytest.mark.parametrize("text", HOSTILE[:5], ids=range(5))
def test_a_hostile_name_is_one_label_of_prometheus(routes, make, text):
    parser = import_or_skip("prometheus_client.parser")
    told = routes(pools=[make(name=text)]).ask("/metrics").body.decode()
    families = list(parser.text_string_to_metric_families(told))
    names = {sample.labels["pool"] for family in families for sample in family.samples}
    assert len(names) == 1
    assert names.pop().isprintable()
    assert "\x1b" not in told


@pytest.mark.fault(68)
def test_no_password_is_told_of(routes, driver, caplog):
    secret = "hunter22-unique"
    pool = ThreadedConnectionPool(
        1, 2, f"postgresql://user:{secret}@host/", connect=FakeConnector(driver.connect), password=secret,
        config={"name": "orders", "detect_deadlock": False},
    )  # fmt: skip
    client = routes(pools=[pool], actions=True)
    held = [pool.getconn(f"postgresql://user:{secret}@host/{number}") for number in range(2)]
    with pytest.raises(TimeoutError):
        pool.getconn(timeout=0.01)
    client.sampler.look()
    for path in ("/json", "/metrics", "/bundle", "/"):
        assert secret.encode() not in client.ask(path, query="history=1").body
    assert secret not in caplog.text
    assert held
    pool.closeall()
