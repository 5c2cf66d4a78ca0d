"""The page in trouble and in danger: hostile names, a lost stream, a prefix; who may press what, and who logs in."""

from __future__ import annotations

import json
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from unit.threads import eventually

from dbpool.monitor import report, wsgi_app

from .browser import named

HOSTILE = "<script>window.hit = 1</script><img src=x onerror=hit=1>\n\x1b[31mred"


class Hostile(Exception):
    """What a server says when it likes."""


def refuse(*arguments, **keywords):
    raise Hostile(HOSTILE)


def test_hostile_names_and_errors_are_text(open_pool, monitor, viewer):
    pool = open_pool(name=HOSTILE, trace=True, timeout=20, maxconn=1)
    broken = open_pool(name="broken", connect=refuse, start="lazy")
    seen = viewer(monitor(pool, broken).url)
    held = pool.getconn()
    waiting = named(HOSTILE, pool.getconn)
    seen.has(".waiters", "<script>window.hit = 1</script>")
    seen.has(".waiters", "\\n\\x1b[31mred")
    with pytest.raises(Hostile):
        broken.getconn()
    seen.page.get_by_role("tab").nth(1).click()
    seen.has(".events", "<script>window.hit = 1</script><img src=x onerror=hit=1>\\n\\x1b[31mred")
    seen.page.get_by_role("tab").first.click()
    assert "<img src=x onerror=hit=1>\\n\\x1b[31mred" in seen.text(".verdict b")
    found = "[window.hit, document.images.length, document.querySelectorAll('body script').length]"
    assert seen.page.evaluate(found) == [None, 0, 0]
    pool.putconn(held)
    pool.putconn(waiting.result())


def test_a_lost_stream_says_so_and_recovers(open_pool, monitor, viewer):
    pool = open_pool()
    first = monitor(pool)
    seen = viewer(first.url)
    seen.expected = ("ERR_",)  # of the network
    seen.has(".stream", "Live")
    first.close()
    seen.has(".stream", "The stream is lost: this is from ")
    held = [pool.getconn() for _ in range(2)]
    monitor(pool, port=first.port)
    seen.has(".stream", "Live")
    seen.has(".figures", "2 / 4")
    for conn in held:
        pool.putconn(conn)


def test_a_pool_that_cannot_be_told_of_does_not_hide_the_others(open_pool, monitor, viewer, monkeypatch):
    ill, well = open_pool(name="ill"), open_pool(name="well")
    real = report.report

    def failing(pool, *arguments, **keywords):
        if pool is ill:
            raise RuntimeError("ill")
        return real(pool, *arguments, **keywords)

    monkeypatch.setattr("dbpool.monitor.onloop.report", failing)
    seen = viewer(monitor(ill, well).url, wait=False)
    seen.has(".verdict strong", "Unknown")
    seen.page.get_by_role("tab").nth(1).click()
    seen.has(".verdict strong", "Healthy")


def test_it_works_below_a_prefix_in_another_server(open_pool, viewer, mounted):
    seen = viewer(mounted(open_pool()))
    seen.has(".verdict", "orders")
    seen.until("document.querySelector('[data-chart=connections]').chart.history.t.length > 3")
    seen.has(".stream", "Live")


class Quiet(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *arguments):
        pass


class Server(ThreadingMixIn, WSGIServer):
    """Answers several at a time."""

    daemon_threads = True


@pytest.fixture
def mounted():
    """Serves the WSGI application of pools below /ops/pools."""
    served = []

    def serve(*pools):
        app = wsgi_app(pools=pools)

        def prefixed(environ, start_response):
            path = environ["PATH_INFO"]
            assert path.startswith("/ops/pools")
            return app({**environ, "SCRIPT_NAME": "/ops/pools", "PATH_INFO": path[len("/ops/pools") :]}, start_response)

        server = make_server("127.0.0.1", 0, prefixed, Server, Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.append((server, app))
        return f"http://127.0.0.1:{server.server_port}/ops/pools/"

    yield serve
    for server, app in served:
        server.shutdown()
        server.server_close()
        app.close()


# ---- actions and login ----------------------------------------------------------------------------------------------


def test_without_actions_there_is_nothing_to_press(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    assert [button.inner_text() for button in seen.page.locator("main button").all()] == ["1 min", "5 min", "15 min"]


def test_actions_are_asked_for_once_more_and_done(open_pool, monitor, viewer):
    pool = open_pool(minconn=2)
    seen = viewer(monitor(pool, actions=True).url)
    press = seen.page.get_by_role("button", name="Drain", exact=True)
    press.click()
    seen.page.get_by_role("button", name="Cancel").click()
    assert pool.stats().discards == {}
    press.click()
    seen.page.locator("dialog button.main").click()
    eventually(lambda: pool.stats().discards.get("drained") == 2)
    seen.page.get_by_role("button", name="Resize").click()
    seen.page.get_by_label("maxconn").fill("9")
    seen.page.keyboard.press("Enter")
    eventually(lambda: pool.maxconn == 9)
    seen.has(".figures", "/ 9")
    seen.has(".connections tbody", "idle")
    seen.page.get_by_role("button", name="Evict").first.click()
    seen.page.locator("dialog button.main").click()
    eventually(lambda: pool.stats().discards.get("evicted") == 1)
    seen.has(".events", "is not used again")


def test_an_action_that_is_refused_says_why_and_escape_ends_it(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool(), actions=True).url)
    seen.expected = ("status of 400",)
    seen.page.get_by_role("button", name="Resize").click()
    seen.page.get_by_label("minconn").fill("5")
    seen.page.get_by_label("maxconn").fill("3")
    seen.page.locator("dialog button.main").click()
    seen.has("dialog [role=alert]", "It failed: ")
    seen.has("dialog [role=alert]", "minconn")
    seen.page.keyboard.press("Escape")
    seen.until("!document.querySelector('dialog')")


def test_who_has_the_token_logs_in(open_pool, monitor, viewer):
    token = "correct horse battery staple"
    started = monitor(open_pool(), token=token)
    seen = viewer(started.url, wait=False)
    seen.expected = ("status of 401",)
    assert seen.page.url.endswith("/login")
    seen.page.locator("input").fill("wrong token")
    seen.page.locator("button").click()
    seen.has("[role=alert]", "That is not the token.")
    seen.page.locator("input").fill(token)
    seen.page.keyboard.press("Enter")
    seen.has(".verdict strong", "Healthy")
    assert token not in json.dumps(seen.context.cookies())
    assert seen.page.evaluate("document.cookie") == ""
    seen.context.clear_cookies()
    started.close()
    monitor(port=started.port, token=token)
    seen.expected = ("status of 401", "ERR_")
    seen.page.wait_for_url("**/login")
