"""The page in a real browser: what it loads, draws and tells, of one pool and of several."""

from __future__ import annotations

import json
import threading
from urllib.request import urlopen

from unit.threads import eventually

from .browser import PATIENCE, named


def asked(url):
    with urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_it_shows_the_verdict_first_in_colour_and_in_words(open_pool, monitor, viewer):
    pool = open_pool(name="orders")
    seen = viewer(monitor(pool).url)
    assert seen.text(".verdict strong") == "Healthy"
    assert seen.text(".verdict b") == "orders"
    seen.has(".verdict", "0 of 4 in use, 1 idle, 0 waiting")
    assert seen.page.title() == "Healthy · orders · dbpool"
    green = seen.page.evaluate("getComputedStyle(document.querySelector('.verdict strong')).color")
    assert green == "rgb(10, 114, 69)"


def test_the_axis_ends_at_maxconn_also_after_a_resize(open_pool, monitor, viewer):
    pool = open_pool(maxconn=7)
    seen = viewer(monitor(pool).url)
    assert seen.chart("connections", "[plot.scales.y.min, plot.scales.y.max]") == [0, 7]
    assert seen.chart("connections", "plot.axes[1]._splits.at(-1)") == 7
    pool.resize(1, 23)
    seen.until("document.querySelector('[data-chart=connections]').chart.plot.scales.y.max === 23")


IS_DRAWN = """name => {
  const canvas = document.querySelector("[data-chart=connections] canvas");
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  const written = getComputedStyle(document.documentElement).getPropertyValue(name);
  const colour = written.match(/[0-9a-f]{2}/g).map(part => parseInt(part, 16));
  let found = 0;
  for (let at = 0; at < pixels.length; at += 4) found += colour.every((part, by) => pixels[at + by] === part);
  return found > 100;
}"""


def test_the_charts_are_drawn(open_pool, monitor, viewer):
    pool = open_pool(minconn=2)
    held = pool.getconn()
    seen = viewer(monitor(pool).url)
    for colour in ("--used", "--idle"):
        seen.until(IS_DRAWN, colour)
    pool.putconn(held)


def test_what_is_plotted_is_what_json_says(open_pool, monitor, viewer):
    pool = open_pool()
    started = monitor(pool)
    seen = viewer(started.url)
    held = [pool.getconn() for _ in range(3)]
    seen.until("document.querySelector('[data-chart=connections]').chart.plot.data[3].includes(3)")
    for conn in held:
        pool.putconn(conn)
    # The layers lie one above the other, the top one first.
    plotted = seen.chart("connections", "({ t: plot.data[0], layers: plot.data.slice(1) })")
    told = next(iter(asked(f"{started.url}json?history=1")["history"].values()))
    assert abs(len(plotted["t"]) - len(told["t"])) <= 2  # a sample was taken meanwhile, or two
    of = {at: told["t"].index(at) for at in plotted["t"] if at in told["t"]}
    assert len(of) >= len(plotted["t"]) - 1
    top, middle, used = plotted["layers"]
    for number, at in enumerate(plotted["t"]):
        if at in of:
            now = {name: told[name][of[at]] for name in ("used", "idle", "connecting")}
            assert used[number] == now["used"]
            assert middle[number] - used[number] == now["idle"]
            assert top[number] - middle[number] == now["connecting"]
    assert seen.chart("waiting", "plot.data[1].length") == len(seen.chart("waiting", "plot.data[0]"))


def test_the_pointer_reads_all_charts_at_the_same_moment(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    seen.until("document.querySelector('[data-chart=waiting]').chart.history.t.length > 2")
    seen.page.locator("[data-chart=waiting] .u-over").hover(position={"x": 150, "y": 40})
    seen.until("document.querySelector('[data-chart=waiting] time').innerText.length === 8")
    seen.until("new Set([...document.querySelectorAll('figure time')].map(time => time.innerText)).size === 1")


def test_one_that_holds_and_one_that_waits_are_in_the_tables(open_pool, monitor, viewer):
    pool = open_pool(maxconn=1, trace=True)
    seen = viewer(monitor(pool).url)
    seen.has(".waiters", "Nobody waits.")
    held, done = [], threading.Event()
    holding = named("the-holder", lambda: (held.append(pool.getconn()), done.wait(PATIENCE)))
    eventually(lambda: held)
    waiting = named("the-waiting-one", pool.getconn)
    seen.has(".waiters", "thread 'the-waiting-one'")
    assert seen.text(".connections tbody tr .badge") == "leased"
    assert seen.text(".connections tbody .wide span") == "thread 'the-holder'"
    assert "test_browser.py" in seen.text(".connections tbody code")
    assert seen.text(".figures div:nth-child(2) b") == "1"
    done.set()
    holding.result()
    pool.putconn(held.pop())
    pool.putconn(waiting.result())
    seen.has(".connections tbody .badge", "idle")


def test_the_configuration_says_what_was_given_and_what_is_wrong_with_it(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool(timeout=3, max_uses=1)).url)
    rows = seen.page.locator(".configuration li").all_inner_texts()
    assert [" ".join(row.split()) for row in rows[:5]] == [
        "minconn 1 given",
        "maxconn 4 given",
        "max_uses 1 given",
        "name orders given",
        "timeout 3 given",
    ]
    assert "max_uses is 1: a connection is opened for each user" in seen.text(".findings ul")


def test_what_happens_is_told_newest_first(open_pool, monitor, viewer):
    pool = open_pool(minconn=0)
    seen = viewer(monitor(pool).url)
    seen.has(".events", "Nothing has happened yet.")
    pool.putconn(pool.getconn(), close=True)
    seen.has(".events", "closed by the caller")
    assert [each.inner_text() for each in seen.page.locator(".events .badge").all()] == ["discarded", "connected"]


def test_the_bundle_can_be_downloaded(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    with seen.page.expect_download() as started:
        seen.page.get_by_text("Diagnostic bundle").click()
    assert json.loads(started.value.path().read_text())
    assert started.value.suggested_filename.startswith("dbpool-")


# ---- several pools --------------------------------------------------------------------------------------------------


def test_several_pools_are_tabs_that_arrows_reach_and_the_address_remembers(open_pool, monitor, viewer):
    pools = [open_pool(name=name) for name in ("billing", "orders", "reports")]
    seen = viewer(monitor(*pools).url)
    assert [tab.get_attribute("aria-selected") for tab in seen.page.get_by_role("tab").all()] == [
        "true",
        "false",
        "false",
    ]
    seen.page.get_by_role("tab").first.focus()
    seen.page.keyboard.press("ArrowRight")
    seen.has(".verdict", "orders")
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("ArrowRight")
    seen.has(".verdict", "billing")
    seen.page.keyboard.press("ArrowLeft")
    seen.has(".verdict", "reports")
    assert seen.page.evaluate("document.activeElement.innerText").startswith("reports")
    seen.page.reload()
    seen.has(".verdict", "reports")
    seen.page.get_by_role("tab").nth(1).click()
    seen.has(".verdict", "orders")


def test_a_pool_may_appear_and_disappear(open_pool, monitor, viewer):
    started = monitor()
    seen = viewer(started.url, wait=False)
    seen.has("main", "No pool is open in this process.")
    pool = open_pool(name="late")
    seen.has(".verdict", "late")
    seen.until("document.querySelector('[data-chart=connections]').chart.plot?.data[0].length > 1")
    pool.close()
    seen.has("main", "No pool is open in this process.")


def test_pools_of_several_processes_are_told_apart(open_pool, monitor, viewer):
    started = monitor(open_pool())
    first = asked(f"{started.url}json?history=1")
    told = {"state": {**first, "left_out": 3}, "history": first["history"]}
    own = told["state"]["pools"][0]
    told["state"]["pools"] = [own, {**own, "id": "4712-1", "pid": 4712}]
    told["state"]["processes"] += [{"pid": 4712, "uptime": 60.0, "stale": True}]
    seen = viewer(started.url, wait=False)
    body = f"event: history\ndata: {json.dumps(told)}\n\n"
    seen.page.route("**/events", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    seen.open(started.url)
    assert [tab.split("\n")[0] for tab in seen.page.get_by_role("tab").all_inner_texts()] == [
        f"orders · {own['pid']}",
        "orders · 4712",
    ]
    seen.has("header", "pid 4712")
    seen.has("header", "up 1 min 00 s · stale")
    seen.has("body", "and 3 more")
    seen.page.get_by_role("tab").nth(1).click()
    seen.until("document.querySelectorAll('[role=tab]')[1].ariaSelected === 'true'")
