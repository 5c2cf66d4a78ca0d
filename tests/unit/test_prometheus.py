"""PoolCollector: scraped over HTTP and parsed back, each number is that of stats(); hostile names spoil no line."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from servers import import_or_skip

from dbpool import PoolExhausted, SimpleConnectionPool
from dbpool.metrics import tables
from dbpool.tally import BOUNDS

prometheus_client = import_or_skip("prometheus_client")
parser = import_or_skip("prometheus_client.parser")
from dbpool.metrics import prometheus as module  # noqa: E402  (it needs prometheus_client)

ROOT = Path(__file__).parents[2]
HOSTILE = 'a"b\\c\nd\r\x1b[31m<script>\udcff{pool="x"}'


@pytest.fixture(scope="module")
def served():
    """A registry, and where prometheus_client's own server tells what is in it."""
    registry = prometheus_client.CollectorRegistry()
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    yield registry, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def scraped(served):
    """Scrapes pools over HTTP; returns the samples by their names and labels."""
    registry, url = served

    def scraped(*pools):
        collector = module.PoolCollector(*pools)
        registry.register(collector)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read().decode("utf-8")
        finally:
            registry.unregister(collector)
        found = {}
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                labels = dict(sample.labels)
                key = (sample.name, labels.pop("pool"), *labels.values())
                assert key not in found, f"{key} is there twice"
                found[key] = sample.value
        return found

    return scraped


def busy_pool(make, kind, driver, **options):
    """Return a pool that has done a bit of everything, one of its connections leased."""
    pool = make(kind, 1, 2, timeout=0, **options)
    first, second = pool.getconn(), pool.getconn("a")
    with pytest.raises(PoolExhausted):
        pool.getconn()
    first.execute()
    pool.putconn(first)
    pool.putconn(second, "a", close=True)
    pool.getconn()
    return pool


def test_a_scrape_parsed_back_is_what_stats_says(make, kind, driver, scraped):
    pool = busy_pool(make, kind, driver, name="orders")
    found, stats = scraped(pool), pool.stats()
    for state in module.STATES:
        assert found["dbpool_connections", "orders", state] == getattr(stats, state)
    for name, (field, _) in module.COUNTERS.items():
        assert found[f"{name}_total", "orders"] == getattr(stats, field), name
    for name, (field, _) in module.GAUGES.items():
        assert found[name, "orders"] == (getattr(stats, field) or 0), name
    for name, (field, _, _) in module.BY_WORD.items():
        for word, count in getattr(stats, field).items():
            assert found[f"{name}_total", "orders", word] == count
    assert found["dbpool_closed_total", "orders", "closed by the caller"] == 1
    assert found["dbpool_timeouts_total", "orders"] == 1
    assert found["dbpool_hold_seconds_count", "orders"] == stats.holds == 2
    assert found["dbpool_hold_seconds_sum", "orders"] == pytest.approx(stats.held)


def test_histograms_are_cumulative_and_end_with_all(make, kind, scraped, clock):
    pool = make(kind, name="orders")
    for seconds in (0.0005, 0.3, 0.3, 99.0):
        pool._state.tally.waits.add(seconds)
    found = scraped(pool)
    buckets = {key[2]: value for key, value in found.items() if key[0] == "dbpool_wait_seconds_bucket"}
    assert buckets == {
        "0.001": 1, "0.005": 1, "0.02": 1, "0.1": 1, "0.5": 3, "2.0": 3, "10.0": 3, "+Inf": 4
    }  # fmt: skip
    assert found["dbpool_wait_seconds_count", "orders"] == 4
    assert found["dbpool_wait_seconds_sum", "orders"] == pytest.approx(99.6005)


def test_the_buckets_are_among_those_that_are_counted():
    assert set(tables.BUCKETS) <= set(BOUNDS)


def test_a_server_that_refuses_is_seen(make, kind, driver, scraped):
    pool = make(kind, name="orders", timeout=0, background=False)
    driver.fail_on = {1}
    with pytest.raises(Exception, match="refused"):
        pool.getconn()
    found = scraped(pool)
    assert (found["dbpool_connect_failing", "orders"], found["dbpool_connect_errors_total", "orders"]) == (1, 1)


@pytest.mark.fault(70)
def test_a_hostile_name_is_one_label_and_spoils_no_line(make, kind, driver, scraped):
    hostile, other = busy_pool(make, kind, driver, name=HOSTILE), make(kind, name="orders")
    found = scraped(hostile, other)
    names = {key[1] for key in found}
    assert names == {HOSTILE.encode("unicode_escape").decode().replace("\\\\", "\\"), "orders"}
    assert len([key for key in found if key[1] == "orders"]) > 30


def test_pools_of_one_name_are_told_apart(make, kind, scraped):
    found = scraped(make(kind, name="orders"), make(kind, name="orders", maxconn=5))
    assert found["dbpool_connections_max", "orders"] == 2
    assert found["dbpool_connections_max", "orders#2"] == 5


@pytest.mark.synchronous
def test_without_pools_it_tells_of_all_that_are_open(make, scraped):
    pool, closed = make(SimpleConnectionPool, name="open one"), make(SimpleConnectionPool, name="closed one")
    closed.close()
    names = {key[1] for key in scraped()}
    assert pool.name in names
    assert closed.name not in names


def test_each_endpoint_has_its_lines(endpoints_kind, driver, scraped):
    many = endpoints_kind(0, 1, connect=driver.connect, config={"name": "many"})
    many.putconn(many.getconn("a"))
    many.putconn(many.getconn("b"))
    assert {key[1] for key in scraped(many)} == {"many['a']", "many['b']"}
    many.closeall()


def test_registering_reads_nothing():
    class Unread:
        def stats(self):
            pytest.fail("read")

    prometheus_client.CollectorRegistry().register(module.PoolCollector(Unread()))


def test_what_has_no_numbers_is_refused():
    with pytest.raises(TypeError, match=r"pools must have stats\(\), and a int has none"):
        module.PoolCollector(5)


def test_the_names_keep_to_the_conventions(make, kind):
    for family in module.PoolCollector(make(kind)).collect():
        assert re.fullmatch(r"dbpool_[a-z_]+", family.name)
        assert (family.type in ("histogram", "summary")) == family.name.endswith("_seconds")
        assert family.documentation


def test_every_name_on_the_dashboard_is_one_that_is_scraped(make, kind, driver, scraped):
    board = json.loads((ROOT / "examples" / "grafana.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    names = {name for expression in asked for name in re.findall(r"\bdbpool_\w+", expression)}
    found = {key[0] for key in scraped(busy_pool(make, kind, driver))} | {"dbpool_dead_total"}
    assert names <= found, names - found
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names}
    assert families == {family.name for family in module.PoolCollector().collect()}  # and each is on it
    for expression in asked:
        assert expression.count("(") == expression.count(")")
