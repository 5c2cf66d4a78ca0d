"""instrument(): what the SDK's reader in memory finds, by the names of the semantic conventions."""

from __future__ import annotations

import gc

import pytest
from servers import import_or_skip

from dbpool import EndpointPool, PoolExhausted, ThreadedConnectionPool

from .threads import Caller, eventually

sdk = import_or_skip("opentelemetry.sdk.metrics")
export = import_or_skip("opentelemetry.sdk.metrics.export")
from dbpool.metrics.opentelemetry import POOL, STATE, instrument  # noqa: E402  (it needs opentelemetry)

PREFIX = "db.client.connection."
UNITS = {
    "count": "{connection}",
    "idle.max": "{connection}",
    "idle.min": "{connection}",
    "max": "{connection}",
    "pending_requests": "{request}",
    "timeouts": "{timeout}",
    "create_time": "s",
    "wait_time": "s",
    "use_time": "s",
}


class Reader:
    """A meter provider, and what its reader finds."""

    def __init__(self):
        self.reader = export.InMemoryMetricReader()
        self.provider = sdk.MeterProvider([self.reader])

    def metrics(self):
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        found = {metric.name: metric for scope in scopes for metric in scope.metrics}
        return {name: metric for name, metric in found.items() if name.startswith(PREFIX)}  # not the SDK's own

    def points(self, name, pool):
        """Return the points of one metric that are of *pool*, by state."""
        metric = self.metrics().get(PREFIX + name)
        points = [] if metric is None else metric.data.data_points
        return {point.attributes.get(STATE): point for point in points if point.attributes[POOL] == pool.name}

    def value(self, name, pool, state=None):
        return self.points(name, pool)[state].value


@pytest.fixture
def reader():
    found = Reader()
    yield found
    found.provider.shutdown()


def test_gauges_are_what_stats_says(make, kind, reader):
    pool, other = make(kind, 1, 3, name="orders", timeout=0), make(kind, name="others", idle_timeout=0)
    instrument(pool, other, meter_provider=reader.provider)
    held = [pool.getconn() for _ in range(3)]
    with pytest.raises(PoolExhausted):
        pool.getconn()
    pool.putconn(held.pop())
    assert (reader.value("count", pool, "used"), reader.value("count", pool, "idle")) == (2, 1)
    assert [reader.value(name, pool) for name in ("idle.max", "idle.min", "max")] == [3, 1, 3]
    assert (reader.value("timeouts", pool), reader.value("pending_requests", pool)) == (1, 0)
    assert [reader.value(name, other) for name in ("idle.max", "idle.min", "max")] == [0, 0, 2]


def test_pending_requests_are_those_who_wait_and_their_time_is_told(make, waiting_kind, reader):
    pool = make(waiting_kind, maxconn=1, timeout=20)
    instrument(pool, meter_provider=reader.provider)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    assert reader.value("pending_requests", pool) == 1
    pool.putconn(conn)
    pool.putconn(caller.result())
    eventually(lambda: None in reader.points("wait_time", pool))
    point, stats = reader.points("wait_time", pool)[None], pool.stats()
    assert point.count == stats.waits
    assert point.sum == pytest.approx(stats.waited, abs=0.1)


def test_connects_are_timed(make, kind, reader):
    pool = make(kind, maxconn=2)
    instrument(pool, meter_provider=reader.provider)
    pool.putconn(pool.getconn(), close=True)
    pool.putconn(pool.getconn())
    point = reader.points("create_time", pool)[None]
    assert point.count == pool.stats().connect_times.count == 2
    assert point.sum == pytest.approx(pool.stats().connect_times.sum, abs=0.1)


def test_the_time_of_use_is_told_when_it_is_asked_for(make, kind, reader, clock, undisturbed):
    pool = make(kind, maxconn=1)
    pool.putconn(pool.getconn())  # its kind of connection is known already
    instrument(pool, meter_provider=reader.provider, use_time=True)
    for seconds in (3, 4):
        conn = pool.getconn()
        clock.leap(seconds)
        pool.putconn(conn)
    point = reader.points("use_time", pool)[None]
    assert (point.count, point.sum) == (2, 7)


def test_else_hits_go_the_quick_way(make, kind, reader):
    pool = make(kind, maxconn=1)
    instrument(pool, meter_provider=reader.provider)
    pool.putconn(pool.getconn())
    before = pool.stats()
    for _ in range(5):
        pool.putconn(pool.getconn())
    assert pool.stats().holds == before.holds  # none was timed
    assert reader.points("use_time", pool) == {}


def test_names_and_units_are_those_of_the_conventions(make, waiting_kind, reader):
    pool = make(waiting_kind, maxconn=1, timeout=20)
    instrument(pool, meter_provider=reader.provider, use_time=True)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    pool.putconn(caller.result())
    eventually(lambda: len(reader.metrics()) == len(UNITS))
    assert {name: metric.unit for name, metric in reader.metrics().items()} == {
        PREFIX + name: unit for name, unit in UNITS.items()
    }


def test_a_pool_that_is_closed_or_gone_is_told_of_no_more(make, kind, driver, reader):
    pool = make(kind)
    instrument(pool, meter_provider=reader.provider)
    assert reader.points("max", pool)
    pool.close()
    assert not reader.points("max", pool)


@pytest.mark.synchronous
def test_no_pool_is_kept_alive(driver, reader):
    pool = ThreadedConnectionPool(0, 1, connect=driver.connect, config={"name": "short"})
    instrument(pool, meter_provider=reader.provider)
    del pool
    gc.collect()
    assert PREFIX + "max" not in reader.metrics()


def test_what_is_no_pool_is_refused(make, driver, reader):
    for wrong in (5, EndpointPool(0, 1, connect=driver.connect)):
        with pytest.raises(TypeError, match="pools must be connection pools, and a"):
            instrument(wrong, meter_provider=reader.provider)


@pytest.mark.fault(70)
def test_a_hostile_name_is_escaped(make, kind, reader):
    pool = make(kind, name="a\nb\udcff")
    instrument(pool, meter_provider=reader.provider)
    (point,) = reader.metrics()[PREFIX + "max"].data.data_points
    assert point.attributes[POOL] == r"a\nb\udcff"
