"""The history that the charts draw: its columns, what each second adds to them, and who writes it."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from unit.threads import Caller, eventually

from dbpool.history import REASONS, History
from dbpool.monitor.found import Watched
from dbpool.monitor.series import columns, point
from dbpool.monitor.settings import Settings

NAMES = {
    "t", "used", "idle", "connecting", "waiting", "max", "wait_p50", "wait_p95", "wait_p99", "opened", "closed",
    "errors", "timeouts",
}  # fmt: skip


@pytest.fixture
def history(make):
    """A history of some seconds in which much happens."""
    pool, kept = make(maxconn=2), History(seconds=20.0)
    kept.add(pool.stats(), 100.0)
    first, second = pool.getconn(), pool.getconn()
    with pytest.raises(TimeoutError):
        pool.getconn(timeout=0.01)
    kept.add(pool.stats(), 101.0)
    pool.putconn(first, close=True)
    pool.putconn(second)
    kept.add(pool.stats(), 103.0)
    pool._state.tally.waits.add(0.004)
    kept.add(pool.stats(), 104.0)
    return kept


def test_it_is_gauges_and_rates(history):
    found = columns(history, 2, 1000.0)
    assert set(found) == NAMES
    assert found["t"] == [1100.0, 1101.0, 1103.0, 1104.0]
    assert found["used"] == [0, 2, 0, 0]
    assert found["idle"] == [0, 0, 1, 1]
    assert found["opened"] == [0, 2, 0, 0]
    assert found["timeouts"] == [0, 1, 0, 0]
    assert found["closed"] == {"closed by the caller": [0, 0, 0.5, 0]}
    assert (found["wait_p50"][0], found["wait_p50"][2]) == (None, None)
    assert 0.002 <= found["wait_p50"][3] <= 0.005
    assert found["max"] == 2


def test_it_adds_row_by_row_what_it_has_as_a_whole(history):
    whole = columns(history, 2, 1000.0)
    rows = history.latest(4)
    for number, (before, row) in enumerate(zip([None, *rows], rows)):
        told = point(before, row, history, 1000.0)
        closed = {reason: rates[number] for reason, rates in whole["closed"].items() if rates[number]}
        assert told == {
            **{name: whole[name][number] for name in NAMES - {"max", "closed"}}, "closed": closed,
        }  # fmt: skip


def test_an_empty_history_has_empty_columns():
    found = columns(History(), 5, 0.0)
    assert {name: value for name, value in found.items() if value} == {"max": 5}


def test_a_ring_that_has_turned_is_told_in_order(make):
    pool, kept = make(), History(seconds=5.0)
    for second in range(13):
        kept.add(pool.stats(), float(second))
        pool.putconn(pool.getconn(), close=True)
    found = columns(kept, 3, 0.0)
    assert found["t"] == [7, 8, 9, 10, 11, 12]
    assert found["opened"] == [0, 1, 1, 1, 1, 1]


def test_counters_that_began_anew_are_no_negative_rates(make):
    pool, kept = make(), History()
    state = pool._state
    state.opened, state.discards["lost"] = 5, 5
    state.tally.waits.add(0.3)
    state.tally.waits.add(0.3)
    kept.add(pool.stats(), 1.0)
    with pool._lock:
        state.renew()
    state.opened, state.discards["lost"] = 1, 1
    state.tally.waits.add(0.3)
    kept.add(pool.stats(), 2.0)
    assert columns(kept, 3, 0.0)["opened"] == [0, 1]
    assert columns(kept, 3, 0.0)["closed"] == {"lost": [0, 1]}
    assert sum(kept.buckets("waits")) == 1


def test_reasons_that_are_not_known_count_as_others(make):
    pool, kept = make(), History()
    kept.add(pool.stats(), 1.0)
    pool._state.discards.update({"lost": 2, "for a reason of its own": 3})
    kept.add(pool.stats(), 2.0)
    assert columns(kept, 3, 0.0)["closed"] == {"lost": [0, 2], "other": [0, 3]}


def test_each_reason_that_the_pool_gives_has_a_column():
    import ast
    from pathlib import Path

    import dbpool

    given = set()
    for path in Path(dbpool.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "attr", "")
            if name in ("_dismiss", "_discard", "_doom", "retire", "condemn", "_reject"):
                given |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    assert {"lost", "interrupted", "evicted", "unfit"} <= given <= set(REASONS)


def test_a_history_for_fifteen_minutes_takes_half_a_megabyte():
    assert History().nbytes <= 500_000


# ---- who writes it ---------------------------------------------------------------------------------------------------


def written(kept):
    return kept._written


def test_each_look_writes_one_row(routes, make):
    pool = make()
    client = routes(pools=[pool])
    for _ in range(3):
        client.sampler.look()
    assert len(pool._history) == 3
    assert pool._history.by_hand


def test_nobody_else_writes_the_rows_of_our_history(routes, make):
    pool = make(leak_threshold=0.2)
    client = routes(pools=[pool])
    client.sampler.look()
    before = written(pool._history)
    pool.check()
    assert pool.history() is pool._history
    assert written(pool._history) == before


def test_a_pools_own_history_is_used_and_written_by_nobody_else(routes, make):
    pool = make()
    own = pool.history(60.0, 30.0)
    client = routes(pools=[pool])
    for _ in range(3):
        client.sampler.look()
    (history,) = json.loads(client.ask("/json", query="history=1").body)["history"].values()
    assert len(history["t"]) == written(own) == 1


def test_a_row_that_nobody_writes_is_written(make):
    pool = make(background=False)
    own, watched = pool.history(60.0, 1.0), Watched(pool, 1)
    late = own.newest() + 1.6
    watched.look(pool, late)
    assert written(own) == 2


def test_after_the_monitor_the_housekeeper_writes_the_history(routes, make):
    pool = make()
    client = routes(pools=[pool])
    client.sampler.look()
    history = pool.history()
    client.routes.close()
    assert not history.by_hand
    before = written(history)
    eventually(lambda: written(history) > before)


def test_after_the_monitor_a_history_that_nobody_asked_for_ends(routes, make):
    pool = make()
    clients = [routes(pools=[pool]) for _ in range(2)]
    for client in clients:
        client.sampler.look()
    history = pool._history
    clients[0].routes.close()
    assert (pool._history, history.by_hand) == (history, True)
    clients[1].routes.close()
    assert (pool._history, history.by_hand) == (None, False)


def test_two_monitors_write_one_row_each_second(routes, make):
    pool = make()
    clients = [routes(pools=[pool]) for _ in range(2)]
    for client in clients:
        client.sampler.look()
    assert len(pool._history) == 1


def test_a_row_is_told_of_once(routes, make):
    pool = make()
    pool.history(600.0, 300.0)
    client = routes(pools=[pool])
    client.sampler.look()
    assert len(client.sampler.document()["rows"]) == 1
    client.sampler.look()
    assert client.sampler.document()["rows"] == {}


def test_what_a_stream_plots_is_what_json_says(routes, make):
    pool = make()
    client = routes(pools=[pool])
    told = []
    for _ in range(4):
        pool.putconn(pool.getconn(), close=True)
        client.sampler.look()
        told += client.sampler.document()["rows"].values()
    (history,) = json.loads(client.ask("/json", query="history=1").body)["history"].values()
    for name in NAMES - {"max", "closed"}:
        assert history[name][1:] == [row[name] for row in told][1:]


# ---- sharing ---------------------------------------------------------------------------------------------------------


def test_a_state_is_made_once_for_all_who_ask(routes, make, monkeypatch):
    from dbpool.monitor import sampler

    make()
    client, calls = routes(), itertools.count()
    real = sampler.reported
    monkeypatch.setattr(sampler, "reported", lambda *args: (next(calls) and None) or real(*args))
    client.sampler.look()
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        return [client.ask("/json").body for _ in range(20)]

    callers = [Caller(ask) for _ in range(8)]
    assert len({body for caller in callers for body in caller.result()}) == 1
    assert next(calls) == 1


def test_settings_are_made_anew_only_when_they_can_have_changed(make):
    pool, settings = make(), Settings()
    first = settings.told(pool, pool.stats(), None, None)
    assert settings.told(pool, pool.stats(), None, None)["config"] is first["config"]
    assert settings.told(pool, pool.stats(), "sqlite3", None)["config"] is not first["config"]
