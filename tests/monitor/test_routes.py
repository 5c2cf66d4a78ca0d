"""What is where: paths, methods, headers, assets, the bundle, metrics."""

from __future__ import annotations

import json

import pytest
from servers import import_or_skip

from dbpool.monitor import assets
from dbpool.monitor.messages import Request
from dbpool.monitor.routes import MOST_VIEWERS

from .asks import HOST, TOKEN, header

READ = ["/", "/json", "/metrics", "/bundle", "/static/style.css", "/login"]


@pytest.mark.parametrize("path", READ)
def test_what_can_be_read_can_be_asked_for_without_its_body(routes, path):
    client = routes()
    answer, head = client.ask(path), client.ask(path, "HEAD")
    assert answer.status == head.status == 200
    assert head.body == b""
    assert int(header(head, "content-length")) > 0
    assert int(header(answer, "content-length")) == len(answer.body)


@pytest.mark.parametrize("path", READ[:-1])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_it_can_only_be_read(routes, path, method):
    answer = routes().ask(path, method, origin=f"http://{HOST}")
    assert answer.status == 405
    assert header(answer, "allow") == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/json/x", "/static/", "/static/page.html", "/static/../server.py", "/static/%2e%2e/server.py",
        "/static//etc/passwd", "/STATIC/style.css", "/actions/drain", "/actions/", "/jsonx", "/.", "/static/uPlot.txt",
    ],
)  # fmt: skip
def test_there_is_nothing_elsewhere(routes, path):
    assert routes().ask(path).status == 404


def test_mounted_without_a_slash_it_leads_to_the_folder(routes):
    mounts = {"/admin/pools": "./pools/", "": "./", "/池": "./%E6%B1%A0/", "/a:b\r\nx": "./a%3Ab%0D%0Ax/"}
    for prefix, where in mounts.items():
        answer = routes().routes.handle(Request("GET", "", headers={"host": HOST}, prefix=prefix))
        assert (answer.status, header(answer, "location")) == (308, where)


@pytest.mark.parametrize("name", sorted(assets.names()))
def test_assets_are_sent_once(routes, name):
    client = routes(token=TOKEN)  # they are no secret
    answer = client.ask(f"/static/{name}")
    tag = header(answer, "etag")
    again = client.ask(f"/static/{name}", if_none_match=tag)
    assert (answer.status, again.status, again.body) == (200, 304, b"")
    assert client.ask(f"/static/{name}", if_none_match='"another"').status == 200


def test_what_goes_wrong_is_a_line_that_tells_nothing(routes, monkeypatch, caplog):
    client = routes()

    def text(kind):
        raise RuntimeError("password=hunter22")

    monkeypatch.setattr(client.sampler, "text", text)
    answer = client.ask("/json")
    assert answer.status == 500
    assert b"hunter22" not in answer.body
    assert "monitor: /json failed" in caplog.text


@pytest.mark.parametrize("query", ["", "history=0", "history=", "other=1"])
def test_the_history_comes_only_when_asked_for(routes, make, query):
    make()
    assert "history" not in json.loads(routes().ask("/json", query=query).body)


def test_the_history_comes_with_the_state(routes, make):
    make()
    client = routes()
    client.sampler.look()
    told = json.loads(client.ask("/json", query="history=1").body)
    assert set(told["history"]) == {pool["id"] for pool in told["pools"]} != set()


def test_the_bundle_has_all_and_no_secret(routes, make, driver):
    pool = make(name="orders", trace=True)
    pool._opener.kwargs["password"] = "hunter22"
    held = pool.getconn()
    client = routes(actions=True, token=TOKEN)
    client.sampler.look()
    answer = client.ask("/bundle", authorization=f"Bearer {TOKEN}")
    told = json.loads(answer.body)
    assert set(told) == {"versions", "state", "history", "dump", "threads"}
    assert "attachment" in header(answer, "content-disposition")
    assert any(line.startswith("  held by thread 'MainThread' for ") for line in told["dump"])
    assert any("in test_the_bundle_has_all_and_no_secret" in line for line in told["threads"])
    assert set(told["history"]) == {pool["id"] for pool in told["state"]["pools"]}
    assert b"hunter22" not in answer.body
    assert TOKEN.encode() not in answer.body
    assert client.routes.guard.csrf.encode() not in answer.body
    pool.putconn(held)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def lines(text):
    """Return the samples of an exposition, as sets of labels."""
    parser = import_or_skip("prometheus_client.parser")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    return samples, {name: (family.type, family.documentation) for name, family in families.items()}


def test_the_metrics_are_those_of_the_collector(routes, make):
    prometheus = import_or_skip("prometheus_client")
    from dbpool.metrics.prometheus import PoolCollector

    busy = make(name="orders", minconn=1)
    make(name="orders")
    make(name='a "quoted" \\ name\n', minconn=2)
    held = busy.getconn()
    busy.putconn(busy.getconn(), close=True)
    busy._state.tally.waits.add(0.3)
    registry = prometheus.CollectorRegistry()
    registry.register(PoolCollector())
    answer = routes().ask("/metrics")
    ours, theirs = lines(answer.body.decode()), lines(prometheus.generate_latest(registry).decode())
    assert ours[1] == theirs[1]
    assert set(ours[0].items()) ^ set(theirs[0].items()) == set()
    assert header(answer, "content-type").startswith("text/plain; version=0.0.4")
    used = [ours[0]["dbpool_connections", (("pool", name), ("state", "used"))] for name in ("orders", "orders#2")]
    assert sorted(used) == [0, 1]
    busy.putconn(held)


def test_the_metrics_need_no_library(routes, make, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    make(name="orders")
    assert b'dbpool_connections_max{pool="orders"} 3.0' in routes().ask("/metrics").body


def test_a_pool_that_fails_has_no_metrics_and_hides_none(routes, make, monkeypatch):
    bad, _ = make(name="bad"), make(name="good")

    def stats():
        raise RuntimeError

    monkeypatch.setattr(bad, "stats", stats, raising=False)
    told = routes().ask("/metrics").body
    assert b'"good"' in told
    assert b'"bad"' not in told


# ---- streams ---------------------------------------------------------------------------------------------------------


def event(part):
    """Return the name and the data of an event."""
    fields = dict(line.split(": ", 1) for line in part.decode().strip().split("\n") if not line.startswith(":"))
    return fields["event"], json.loads(fields["data"])


def test_a_stream_begins_with_all_and_goes_on_with_what_is_new(routes, make):
    make()
    client = routes()
    client.sampler.look()
    feed = client.ask("/events").stream
    first = feed.first()
    retry, _, rest = first.partition(b"\n\n")
    name, data = event(rest)
    assert retry == b"retry: 2000"
    assert (name, set(data), len(data["history"])) == ("history", {"history", "state"}, 1)
    client.sampler.look()
    name, data = event(feed.next())
    assert (name, set(data), len(data["rows"])) == ("state", {"state", "rows"}, 1)
    feed.close()


def test_who_missed_something_is_told_all_again(routes, make):
    make()
    client = routes()
    feed = client.ask("/events").stream
    feed.first()
    for _ in range(3):
        client.sampler.look()
    assert event(feed.next())[0] == "history"
    client.sampler.look()
    assert event(feed.next())[0] == "state"
    feed.close()


def test_without_news_there_is_a_heartbeat(routes, monkeypatch):
    monkeypatch.setattr("dbpool.monitor.feed.PATIENCE", 0.01)
    feed = routes().ask("/events").stream
    feed.first()
    assert feed.next() == b": still here\n\n"
    feed.close()


def test_a_stream_ends_with_the_monitor(routes):
    client = routes()
    feed = client.ask("/events").stream
    feed.first()
    client.routes.close()
    assert feed.next() is None
    feed.close()


def test_there_are_so_many_viewers_and_no_more(routes):
    client = routes()
    feeds = [client.ask("/events").stream for _ in range(MOST_VIEWERS)]
    answer = client.ask("/events")
    assert (answer.status, header(answer, "retry-after")) == (503, "10")
    feeds[0].close()
    feeds[0].close()
    feeds[0] = client.ask("/events").stream
    assert client.ask("/events").status == 503
    for feed in feeds:
        feed.close()


def test_to_ask_for_the_head_of_a_stream_takes_no_viewers_place(routes):
    client = routes()
    for _ in range(MOST_VIEWERS + 1):
        assert client.ask("/events", "HEAD").stream is None
