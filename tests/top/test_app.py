"""The terminal view, driven by textual's own pilot."""

from __future__ import annotations

import asyncio
import re
import time
from html import unescape

import pytest
from servers import import_or_skip

from dbpool import ThreadedConnectionPool
from dbpool.monitor import pool_monitor
from dbpool.top import feed, tables
from dbpool.top.client import Monitor
from top.stage import a_history, a_pool, a_state

import_or_skip("textual")
from textual.widgets import DataTable, Static  # noqa: E402

from dbpool.top.app import TopApp  # noqa: E402

PATIENCE = 20.0  # seconds for something to come to the screen


class Viewer:
    """Somebody at the terminal: presses keys, and sees the screen as text."""

    def __init__(self, app, pilot):
        self.app, self._pilot = app, pilot

    async def press(self, *keys):
        await self._pilot.press(*keys)

    async def until(self, is_so):
        """Wait until *is_so*()."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, f"not so after {PATIENCE:.0f} s:\n{self.shown()}"
            await self._pilot.pause(0.01)

    async def sees(self, *texts):
        """Wait until all *texts* are in what the widgets show."""
        await self.until(lambda: all(text in self.shown() for text in texts))

    async def sees_on_the_screen(self, *texts):
        """Wait until all *texts* are on the screen itself; return the picture."""
        deadline = time.monotonic() + PATIENCE
        while True:
            await self._pilot.pause(0.2)  # a picture that is made while the screen is laid out again keeps it from that
            picture = self.app.export_screenshot()
            rows = re.findall(r"<text [^>]*>(.*?)</text>", picture)
            words = " ".join(unescape(" ".join(rows)).split())
            if all(text in words for text in texts):
                return picture
            assert time.monotonic() < deadline, f"{texts} not among:\n{words}"

    def shown(self):
        """Return what the widgets that are seen have to say."""
        texts = [said(widget) for widget in self.app.query(Static) if widget.is_mounted]
        for table in self.app.query(DataTable):
            if table.id == f"table-{self.app.query_one('#tabs').active}" or table.has_class("several"):
                texts += [str(column.label) for column in table.columns.values()]
                texts += [cell for row in self.cells(f"#{table.id}") for cell in row]
        return " | ".join(texts)

    def shown_in(self, name):
        return said(self.app.query_one(name, Static))

    def cells(self, name):
        table = self.app.query_one(name, DataTable)
        return [[str(cell) for cell in table.get_row_at(index)] for index in range(table.row_count)]


def said(widget):
    """Return what a widget shows, as text."""
    rendered = widget.render()
    return str(getattr(rendered, "_renderable", rendered))  # textual 1 wraps it


def look(url, script, size=(140, 40), language="en"):
    """Run *script* with a viewer in front of the app."""

    async def main():
        app = TopApp(Monitor(url), language)
        async with app.run_test(size=size) as pilot:
            await script(Viewer(app, pilot))

    asyncio.run(main())


def test_the_verdict_the_bands_and_the_connections_are_shown(stage):
    stage.begin(a_pool(code="exhausted"))

    async def script(viewer):
        await viewer.sees("orders", "exhausted", "as the test says", "live", "worker-3")
        assert viewer.shown_in("#bands").startswith("8│")
        assert "used 4" in viewer.shown_in("#bands")
        assert "peak 500 ms" in viewer.shown_in("#lines")
        assert viewer.cells("#table-connections")[0][:4] == ["3", "4711", "leased", "2.5 s"]
        picture = await viewer.sees_on_the_screen("orders", "exhausted", "live", "worker-3", "█", "1 connections")
        assert picture.startswith("<svg")

    look(stage.url, script)


def test_each_table_has_a_key(stage):
    stage.begin(a_pool())

    async def script(viewer):
        await viewer.sees("live")
        for key, name in enumerate(tables.TABLES, start=1):
            await viewer.press(str(key))
            table = tables.TABLES[name](a_pool(), "en")
            await viewer.sees(*filter(None, table.rows[0][:2]))
            assert viewer.cells(f"#table-{name}") == [list(row) for row in table.rows]
        await viewer.sees_on_the_screen("five would do")

    look(stage.url, script)


def test_what_comes_each_second_is_drawn(stage):
    pool = a_pool()
    stage.begin(pool)

    async def script(viewer):
        await viewer.sees("healthy")
        row = {"t": 1700000060.0, "used": 7, "idle": 0, "connecting": 0, "timeouts": 3}
        stage.say("state", {"state": a_state(a_pool(code="leak_suspected")), "rows": {"7-1": row}})
        await viewer.sees("leak_suspected", "total 3")

    look(stage.url, script)


def test_several_pools_are_listed_and_one_is_chosen(stage):
    stage.begin(a_pool(), a_pool("reports", 2, "database_slow"), a_pool("tenants", 3, endpoint="ada"))

    async def script(viewer):
        await viewer.sees("reports", "tenants (ada)", "▲ database_slow")
        assert [row[1] for row in viewer.cells("#pools")] == ["orders", "reports", "tenants (ada)"]
        assert viewer.shown_in("#verdict").startswith("orders")
        await viewer.press("n")
        assert viewer.shown_in("#verdict").startswith("reports")
        await viewer.press("p", "p")
        assert viewer.shown_in("#verdict").startswith("tenants (ada)")
        viewer.app.query_one("#pools").focus()
        await viewer.press("up", "enter")
        await viewer.sees("reports   database_slow")

    look(stage.url, script)


@pytest.mark.fault(70)
def test_names_with_markup_and_escapes_are_shown_as_text(stage):
    hostile = "[red]x[/] [@click=app.quit]y[/] <script>\x1b[31m\r\n[/b]"
    texts = {"text": hostile, "code": "exhausted"}
    lists = {
        "connections": [{"id": 1, "state": hostile, "holder": hostile, "at": hostile}],
        "waiters": [{"who": hostile, "at": hostile, "key": hostile}],
        "backoff": {"failing_for": 1.0, "last_error": hostile},
        "leaks": [{"place": hostile, "count": 1}],
        "events": [{"event": hostile, "text": hostile}],
        "config": [{"name": hostile, "value": hostile, "source": hostile}],
        "lint": [{"code": hostile, "severity": hostile, "text": hostile}],
        "advice": {"text": hostile},
    }
    stage.begin(a_pool(hostile, verdict=texts, **lists), a_pool(hostile, 2, hostile))
    plain = "[red]x[/] [@click=app.quit]y[/] <script>\\x1b[31m\\r\\n[/b]"

    async def script(viewer):
        await viewer.sees_on_the_screen("exhausted", plain)
        assert plain in viewer.shown_in("#verdict")
        assert viewer.cells("#pools")[1][1:3] == [plain, f"▲ {plain}"]
        for key, name in enumerate(tables.TABLES, start=1):
            await viewer.press(str(key))
            await viewer.sees("live")
            assert plain in viewer.cells(f"#table-{name}")[0]
        await viewer.press("n")
        await viewer.sees("live")

    look(stage.url, script, size=(200, 40))


def test_a_lost_stream_is_told_and_asked_again(stage, monkeypatch):
    monkeypatch.setattr(feed, "PATIENCE", 60.0)
    stage.begin(a_pool())

    async def script(viewer):
        await viewer.sees("live")
        stage.status = 500
        stage.end_stream()
        await viewer.press("r")
        await viewer.sees("lost: http://127.0.0.1", "answered 500")
        stage.status = 200
        stage.begin(a_pool(code="database_refuses"))
        await viewer.press("r")
        await viewer.sees("live", "database_refuses")

    look(stage.url, script)


def test_a_monitor_that_ends_each_stream_is_not_lost(stage, monkeypatch):
    monkeypatch.setattr(feed, "PATIENCE", 0.01)

    async def script(viewer):
        for code in ("healthy", "exhausted", "leak_suspected"):
            stage.begin(a_pool(code=code))
            stage.end_stream()
            await viewer.sees(code, "live")
            assert "lost" not in viewer.shown()

    look(stage.url, script)


def test_without_a_pool_it_says_so(stage):
    stage.begin()

    async def script(viewer):
        await viewer.sees("no pool is open", "live")
        await viewer.press("n", "s", "t", "2")
        stage.say("history", {"history": a_history(a_pool()), "state": a_state(a_pool())})
        await viewer.sees("orders", "thread 'late'")
        stage.say("state", {"state": a_state(), "rows": {}})
        await viewer.sees("no pool is open")

    look(stage.url, script)


def test_a_pause_holds_what_is_shown(stage):
    stage.begin(a_pool())

    async def script(viewer):
        await viewer.sees("live")
        await viewer.press("space")
        await viewer.sees("paused")
        stage.say("state", {"state": a_state(a_pool("changed")), "rows": {}})
        await viewer.until(lambda: viewer.app._heard.pools()[0]["name"] == "changed")
        assert "changed" not in viewer.shown()
        await viewer.press("space")
        await viewer.sees("changed")

    look(stage.url, script)


def test_language_theme_and_span_have_keys(stage):
    stage.begin(a_pool(code="exhausted"))

    async def script(viewer):
        await viewer.sees("连接耗尽", "实时")
        await viewer.press("l")
        await viewer.sees("exhausted", "15 min")
        assert "#4b8bee" in (await viewer.sees_on_the_screen("exhausted")).lower()
        await viewer.press("t", "s")
        await viewer.sees("1 min")
        assert "#4b8bee" not in (await viewer.sees_on_the_screen("1 min")).lower()

    look(stage.url, script, language="zh")


def test_processes_that_do_not_answer_are_told(stage):
    processes = [{"pid": 7, "uptime": 1.0, "stale": False}, {"pid": 8, "uptime": None, "stale": True}]
    state = a_state(a_pool(), processes=processes)
    stage.say("history", {"history": {}, "state": state})

    async def script(viewer):
        await viewer.sees("2 processes", "8 does not answer")

    look(stage.url, script)


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (20, 6), (300, 80)])
def test_it_fits_into_terminals_of_all_sizes(stage, size):
    stage.begin(a_pool(), a_pool("reports", 2))

    async def script(viewer):
        await viewer.until(viewer.app._heard.pools)
        await viewer.press("1", "n", "s")
        if size[0] >= 80:
            await viewer.sees_on_the_screen("reports", "healthy", "used 4")

    look(stage.url, script, size)


def test_q_ends_it_and_nobody_listens_any_more(stage):
    stage.begin(a_pool())
    ended = []

    async def script(viewer):
        await viewer.sees("live")
        listener = viewer.app._listener
        await viewer.press("q")
        ended.append(listener)

    look(stage.url, script)
    ended[0].join(PATIENCE)
    assert not ended[0].is_alive()


def test_a_real_monitor_is_drawn(tmp_path):
    import sqlite3

    with ThreadedConnectionPool(2, 3, tmp_path / "x.db", connect=sqlite3, config={"name": "real"}) as pool:
        with pool_monitor(0, pools=[pool]) as monitor, pool.connection():

            async def script(viewer):
                await viewer.sees("real", "healthy", "1 of 3 in use", "live", "used 1", "leased")
                held = [pool.getconn(), pool.getconn()]
                await viewer.sees("3 of 3 in use", "used 3")
                for conn in held:
                    pool.putconn(conn)

            look(monitor.url, script)
