"""The state: what the page is told of each pool."""

from __future__ import annotations

import json
import os
import threading
import warnings

import pytest
from unit.threads import Caller, eventually

from dbpool import PersistentConnectionPool, PoolConfig, SimpleConnectionPool
from dbpool.history import History
from dbpool.monitor import report as reports
from dbpool.monitor.settings import SHORTEST, advice
from dbpool.verdict import CODES

from .asks import only


def test_it_has_the_fields_that_the_page_reads(seen):
    _, client = seen()
    state = client.state()
    assert set(state) == {
        "version", "now", "actions", "csrf", "process", "processes", "pools", "left_out",
    }  # fmt: skip
    assert set(state["pools"][0]) == {
        "id", "pid", "name", "kind", "driver", "endpoint", "verdict", "stats", "percentiles", "connections", "waiters",
        "connecting", "backoff", "leaks", "events", "config", "lint", "advice",
    }  # fmt: skip
    assert state["process"]["pid"] == os.getpid()
    assert state["processes"] == [{"pid": os.getpid(), "uptime": state["process"]["uptime"], "stale": False}]


def test_a_pool_is_named_with_its_kind_and_its_driver(seen):
    _, client = seen(name="orders", kind=SimpleConnectionPool, minconn=1)
    found = client.pool()
    assert (found["name"], found["kind"], found["endpoint"]) == ("orders", "SimpleConnectionPool", None)
    assert found["verdict"]["code"] in CODES


def test_the_figures_are_those_of_stats(seen):
    pool, client = seen(minconn=2)
    pool.putconn(pool.getconn())
    stats, found = pool.stats(), only(client, "stats")
    assert {name: found[name] for name in ("used", "idle", "leases", "opened", "maxconn")} == {
        "used": 0, "idle": 2, "leases": 1, "opened": 2, "maxconn": 3,
    }  # fmt: skip
    assert found["connect_times"]["count"] == stats.connect_times.count == 2
    assert set(found["wait_times"]) == {"count", "sum", "longest", "p50", "p95", "p99"}


def test_leased_connections_come_first_the_longest_first(seen):
    pool, client = seen(minconn=3, trace=True)
    first, second = pool.getconn(), pool.getconn()
    rows = only(client, "connections")
    assert [row["state"] for row in rows] == ["leased", "leased", "idle"]
    assert rows[0]["held"] >= rows[1]["held"]
    assert [row["id"] for row in rows] == [
        pool._entries[id(first)].number,
        pool._entries[id(second)].number,
        rows[2]["id"],
    ]
    assert rows[0]["holder"] == "thread 'MainThread'"
    assert __file__ in rows[0]["site"]
    assert (rows[2]["holder"], rows[2]["held"], rows[2]["site"]) == (None, None, None)
    assert rows[2]["idle_for"] >= 0
    assert rows[0]["idle_for"] is None
    assert rows[0]["uses"] == 1
    assert 0 < rows[0]["retires_in"] <= 3600


def test_numbers_of_connections_are_never_given_again(seen):
    pool, client = seen()
    numbers = []
    for _ in range(3):
        pool.putconn(pool.getconn(), close=True)
        held = pool.getconn()
        numbers += [row["id"] for row in only(client, "connections")]
        pool.putconn(held)
    assert numbers == sorted(set(numbers))


def test_a_connection_without_a_lifetime_does_not_retire(seen):
    _, client = seen(minconn=1, max_lifetime=None)
    assert only(client, "connections", 0, "retires_in") is None


def test_it_says_where_a_holder_stands_now(seen):
    pool, client = seen()
    go, held = threading.Event(), threading.Event()

    def standing_in_this_function():
        conn = pool.getconn()
        held.set()
        while not go.wait(0.01):
            pass
        pool.putconn(conn)

    holder = Caller(standing_in_this_function)
    assert held.wait(10)
    eventually(lambda: "standing_in_this_function" in (only(client, "connections", 0, "at") or ""))
    go.set()
    holder.result()


def test_waiters_are_listed_the_next_one_first(seen):
    pool, client = seen(maxconn=1, timeout=60)
    held = pool.getconn()
    first = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 1)
    second = Caller(pool.getconn, "a key")
    eventually(lambda: pool.stats().waiting == 2)
    rows = only(client, "waiters")
    assert [row["key"] for row in rows] == [None, "'a key'"]
    assert rows[0]["seconds"] >= rows[1]["seconds"]
    assert rows[0]["who"].startswith("thread 'Thread-")
    assert only(client, "verdict", "code") == "exhausted"
    pool.putconn(held)
    pool.putconn(first.result())
    pool.putconn(second.result(), "a key")


def test_what_is_being_opened_is_listed(seen, driver):
    pool, client = seen()
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    assert len(only(client, "connecting")) == 1
    assert only(client, "connecting", 0, "seconds") >= 0
    driver.gate.set()
    pool.putconn(caller.result())
    assert only(client, "connecting") == []


def test_a_server_that_refuses_is_told_with_the_next_attempt(seen, driver):
    pool, client = seen(timeout=60)
    driver.refusal = "transient"
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().connect_errors >= 2)
    found = client.pool()
    assert found["backoff"]["failing_for"] >= 0
    assert "the server refuses everybody" in found["backoff"]["last_error"]
    assert found["backoff"]["next_try_in"] is not None
    assert found["verdict"]["code"] == "database_refuses"
    driver.refusal = None
    pool.putconn(caller.result())
    assert only(client, "backoff") == {"failing_for": None, "last_error": None, "next_try_in": None}


def forget(pool):
    """Get a connection, and do not put it back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool.getconn()
        pool.check()


def test_leaks_are_grouped_by_the_place_where_they_were_got(seen, driver):
    driver.keep = False
    pool, client = seen(trace=True)
    client.state()

    for _ in range(3):
        forget(pool)
    (leak,) = only(client, "leaks")
    assert (leak["count"], "in forget" in leak["place"]) == (3, True)
    assert leak["last"] >= 0


def test_a_leak_without_a_trace_says_how_to_learn_more(seen, driver):
    driver.keep = False
    pool, client = seen()
    forget(pool)
    assert [leak["place"] for leak in only(client, "leaks")] == [reports.UNTRACED]


def test_a_lease_that_is_held_for_long_is_a_leak_too(seen):
    pool, client = seen(leak_threshold=0.001, trace=True)
    pool.getconn()
    eventually(lambda: pool.check().long_leases)
    assert [leak["count"] for leak in only(client, "leaks")] == [1]
    assert only(client, "verdict", "code") == "leak_suspected"


def test_places_of_leaks_are_bounded():
    from dbpool.tally import MOST_PLACES, Tally

    tally = Tally()
    for number in range(3 * MOST_PLACES):
        tally.leaked_at(f"place {number}", float(number))
        tally.leaked_at("each time", float(number))
    assert len(tally.leak_places) == MOST_PLACES
    assert tally.leak_places["each time"][0] == 3 * MOST_PLACES


# ---- configuration ---------------------------------------------------------------------------------------------------


def config(client):
    return {row["name"]: (row["value"], row["source"]) for row in only(client, "config")}


def test_each_option_is_told_with_its_source(seen, monkeypatch):
    monkeypatch.setenv("DBPOOL_TIMEOUT", "3")
    options = PoolConfig.from_env(max_uses=7)._asdict()
    _, client = seen(**{name: value for name, value in options.items() if name in ("max_uses", "name")})
    found = config(client)
    assert found["max_uses"] == ("7", "given")
    assert found["timeout"] == ("10.0", "default")
    assert (found["minconn"], found["maxconn"]) == (("0", "given"), ("3", "given"))
    assert set(found) == {"minconn", "maxconn", *PoolConfig.__slots__}


def test_objects_are_told_by_their_names_only(seen):
    class Secretive:
        def __repr__(self):
            raise AssertionError("shown")

        def __call__(self, conn):
            pass

    def prepare(conn):
        pass

    _, client = seen(on_connect=Secretive(), reset=prepare)
    found = config(client)
    assert found["on_connect"][0] == "a Secretive"
    assert found["reset"][0].endswith("prepare")


def test_the_lint_of_the_options_is_told(seen):
    _, client = seen(timeout=None)
    assert [finding["code"] for finding in only(client, "lint")][:1] == ["no-timeout"]


def test_a_resize_is_told_at_once(seen):
    pool, client = seen()
    assert config(client)["maxconn"][0] == "3"
    pool.resize(1, 9)
    assert config(client)["maxconn"][0] == "9"


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("tenant", "'tenant'"), (7, "7"), (("a", 1), "('a', 1)"), (b"x", "b'x'"),
        ("postgresql://u:hunter22@h/", "'postgresql://u:***@h/'"), (frozenset((1,)), "<frozenset>"),
    ],
)  # fmt: skip
def test_keys_are_told_without_passwords_and_objects_by_their_type(key, told):
    assert reports.key_of(key) == told


def test_the_key_of_a_persistent_pool_is_no_key(seen):
    pool, client = seen(kind=PersistentConnectionPool)
    pool.getconn()
    assert only(client, "connections", 0, "key") is None
    assert only(client, "connections", 0, "state") == "leased"


def test_what_json_cannot_say_is_told_as_the_next_best():
    from dbpool.monitor.written import encoded

    told = json.loads(encoded({"a": float("inf"), "b": [float("nan"), object()], 1: (1, None, True)}))
    assert told == {"a": None, "b": [None, "<object>"], "1": [1, None, True]}


def test_the_advice_comes_from_what_was_observed(make):
    pool, history = make(maxconn=50), History()
    held = [pool.getconn() for _ in range(4)]
    for second in range(60):
        assert advice(history, 50) is None or second > SHORTEST
        history.add(pool.stats(), float(second))
        pool.putconn(pool.getconn())
    found = advice(history, 50)
    assert (found["demand"], found["peak"], found["suggested"]) == (4.0, 4, 8)
    assert found["mean_hold"] == pytest.approx(4.0)
    assert "8 would be enough, maxconn is 50" in found["text"]
    for conn in held:
        pool.putconn(conn)
    assert advice(None, 50) is None
