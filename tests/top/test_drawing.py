"""Bands, lines and tables: what is drawn of which figures."""

from __future__ import annotations

import pytest

from dbpool import verdict
from dbpool.top import bands, charts, feed, tables
from dbpool.top.words import CHINESE, wished, word
from top.stage import a_history, a_pool, a_state


def as_text(rows):
    return ["".join(text for text, _ in row) for row in rows]


def styles(row):
    return [style for _, style in row]


def test_a_band_is_as_high_as_its_part_of_the_maximum():
    rows = bands.stacked([(4.0, 0.0, 0.0)], most=8, width=1, height=2)
    assert rows == [[(" ", "")], [("█", "used")]]
    rows = bands.stacked([(3.0, 0.0, 0.0)], most=8, width=1, height=2)
    assert as_text(rows) == [" ", "▆"]


def test_bands_stand_on_each_other_and_none_is_hidden():
    rows = bands.stacked([(2.0, 0.0, 4.0)], most=8, width=1, height=2)
    assert rows == [[("▄", "idle")], [("▄", "used on idle")]]
    rows = bands.stacked([(1.0, 7.0, 0.0)], most=8, width=1, height=1)
    assert rows == [[("▁", "used on connecting")]]


def test_a_full_pool_reaches_the_upper_edge_and_no_further():
    assert as_text(bands.stacked([(8.0, 0.0, 0.0)], most=8, width=1, height=3)) == ["█"] * 3
    assert as_text(bands.stacked([(0.0, 0.0, 0.0)], most=0, width=1, height=3)) == [" "] * 3


def test_the_newest_is_at_the_right():
    rows = bands.stacked([(8.0, 0.0, 0.0)], most=8, width=4, height=1)
    assert as_text(rows) == ["   █"]


@pytest.mark.parametrize(
    ("length", "width", "span"), [(900, 77, 900), (60, 77, 60), (7, 3, 60), (0, 10, 60), (5, 1, 5)]
)
def test_each_column_stands_for_as_many_seconds_and_none_is_left_out(length, width, span):
    columns = bands.binned(length, width, span)
    assert [index for column in columns for index in column] == list(range(length))
    assert len(columns) <= width
    assert len({len(column) for column in columns[1:]}) <= 1


def test_a_column_shows_the_moment_when_the_most_were_in_use():
    values = {"used": [1, 5, 2], "connecting": [0, 0, None], "idle": [4, 0, 3]}
    assert bands.fullest(values, [range(3)]) == [(5, 0.0, 0.0)]


def test_a_line_has_a_dot_where_nothing_is_known_and_its_peak_as_a_full_block():
    assert bands.line([None, 0, 1, 4], 6, 6) == "  ·▁▂█"
    assert bands.line([], 3, 60) == "   "


def test_the_axis_is_the_maximum_of_the_pool():
    pool = a_pool()
    series = a_history(pool)["7-1"]
    rows = as_text(charts.bands(pool, series, 40, 9, 60, "en"))
    assert rows[0].startswith("8│")
    assert rows[-2].startswith("0│")
    assert "used 4" in rows[-1]
    assert "max 8" in rows[-1]
    full = [row[-1] for row in rows[:-1]]
    assert full == ["█"] * 8, "the last second had all in use"
    before = [row[-3] for row in rows[:-1]]
    assert [mark == "█" for mark in before] == [False] * 3 + [True] * 5, "4 used and 1 idle of 8"


def test_connections_above_the_maximum_raise_the_axis():
    series = {"t": [1.0, 2.0], "used": [3, 12], "idle": [0, 0], "connecting": [0, 0]}
    assert as_text(charts.bands(a_pool(), series, 40, 9, 60, "en"))[0].startswith("12│")


def test_a_span_leaves_out_what_is_older():
    series = a_history(a_pool(), length=300)["7-1"]
    assert len(charts.latest(series, 60, "used")) == 60
    assert len(charts.latest(series, 900, "used")) == 300


def test_lines_say_the_sum_or_the_peak():
    rows = as_text(charts.lines(a_pool(), a_history(a_pool())["7-1"], 30, 60, "en"))
    said = {row.split("  ")[0]: row.split("  ")[1] for row in rows[::2]}
    assert said["closes"] == "total 1"
    assert said["wait p99"] == "peak 500 ms"
    assert said["waiting 2"] == "peak 0"


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_pool_of_which_nothing_is_known_has_empty_tables(name):
    for pool in ({}, {"id": 3, "connections": "x", "events": [None, 7, {}], "stats": [], "advice": 1}):
        table = tables.TABLES[name](pool, "en")
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_row_has_a_cell_for_each_column(name):
    table = tables.TABLES[name](a_pool(), "zh")
    assert table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_the_tables_say_what_the_monitor_said():
    pool = a_pool()
    assert tables.connections(pool, "en").rows[0] == (
        "3", "4711", "leased", "2.5 s", "", "1 min 15 s", "12", "59 min", "thread 'worker-3'", "shop.py:12 in buy",
    )  # fmt: skip
    assert [row[:2] for row in tables.waiters(pool, "en").rows] == [
        ("thread 'late'", "1.2 s"), ("a connect is under way", "750 ms"), ("connects fail", "3.0 s"),
    ]  # fmt: skip
    assert tables.leaks(pool, "en").rows == [("shop.py:33 in lose", "2", "12.0 s")]
    assert [row[1:] for row in tables.events(pool, "en").rows] == [("discarded", "5", "the last"),
                                                                  ("connected", "1", "the first")]  # fmt: skip
    assert tables.settings(pool, "en").rows[0][0] == "warning"
    assert ("suggested", "5") in tables.advice(pool, "en").rows
    assert ("closes by reason", "expired 3, lost 2") in tables.advice(pool, "en").rows


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0, "0"),
        (0.0123, "12.3 ms"),
        (1.25, "1.2 s"),
        (75, "1 min 15 s"),
        (120, "2 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_written_as_people_read_them(seconds, shown):
    assert tables.seconds(seconds) == shown


def test_every_word_that_is_ours_is_there_in_chinese():
    columns = {name for show in tables.TABLES.values() for name in show(a_pool(), "en").columns}
    ours = {*verdict.CODES, *columns, *tables.TABLES, *bands.BANDS}
    assert [name for name in ours if name not in CHINESE] == []
    assert word("healthy", "zh") != word("healthy", "en") == "healthy"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "", "LANG": "zh"}, "zh"),
    ],
)
def test_the_environment_says_which_language(environment, language):
    assert wished(environment) == language


# ---- what was heard ---------------------------------------------------------------------------------------------


def test_rows_follow_the_history_and_one_of_the_same_moment_is_no_news():
    heard = feed.Heard()
    pool = a_pool()
    heard.take("history", {"history": a_history(pool), "state": a_state(pool)})
    row = {"t": 1700000060.0, "used": 5, "max": 9, "closed": {"lost": 2}}
    for _ in range(2):
        heard.take("state", {"state": a_state(pool), "rows": {"7-1": row}})
    series = heard.series["7-1"]
    assert series["used"][-2:] == [8, 5]
    assert series["max"] == 9
    assert series["closed"]["lost"] == [None] * 60 + [2]
    lengths = {len(values) for name, values in series.items() if isinstance(values, list)}
    assert lengths == {61}


def test_a_series_does_not_grow_for_ever_and_a_pool_that_is_gone_is_forgotten():
    heard = feed.Heard()
    pool = a_pool()
    heard.take("history", {"history": {}, "state": a_state(pool)})
    for second in range(feed.MOST_ROWS + 50):
        row = {"t": float(second), "used": 1, "closed": {"lost": 1}}
        heard.take("state", {"state": a_state(pool), "rows": {"7-1": row}})
    assert len(heard.series["7-1"]["used"]) == len(heard.series["7-1"]["closed"]["lost"]) == feed.MOST_ROWS
    heard.take("state", {"state": a_state(a_pool("other", 2)), "rows": {}})
    assert heard.series == {}


@pytest.mark.parametrize("rows", [None, [], "x", {"7-1": None}, {"7-1": {"t": "x"}}, {"7-1": {"used": {"a": 1}}}])
def test_rows_that_are_none_do_no_harm(rows):
    heard = feed.Heard()
    pool = a_pool()
    heard.take("history", {"history": a_history(pool), "state": a_state(pool)})
    heard.take("state", {"state": a_state(pool), "rows": rows})
    charts.bands(pool, heard.series["7-1"], 40, 9, 60, "en")
