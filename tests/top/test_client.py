"""The client of the monitor: where it goes, what it sends, and what it makes of answers that are none."""

from __future__ import annotations

import socket
from contextlib import closing, suppress

import pytest
from unit.threads import Caller, eventually

from dbpool.top import client
from dbpool.top.client import BadAddress, Monitor, Unauthorised, Unreachable, address
from top.stage import a_pool, a_state

SECRET = "sesame-sesame-sesame"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765/"),
        ("http://127.0.0.1:8765/pools/", "http://127.0.0.1:8765/pools/"),
        ("https://app.example.com/pools", "https://app.example.com/pools/"),
        ("http://[::1]:8765", "http://[::1]:8765/"),
    ],
)
def test_a_url_is_a_host_a_port_and_a_path(url, shown):
    assert str(address(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@host/", f"http://host/?token={SECRET}", f"http://host/#{SECRET}", f"{SECRET}",
        f"ftp://{SECRET}/", f"http://host:{SECRET}/", f"http://host/{SECRET}\r\nX: y", "http:///", f"//{SECRET}",
        f"http://{SECRET}\x1b[2J/",
    ],
)  # fmt: skip
def test_a_url_that_is_something_else_is_refused_and_not_repeated(url):
    with pytest.raises(BadAddress) as refused:
        Monitor(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é", ""])
def test_a_token_that_is_no_header_is_refused_and_not_repeated(token):
    with pytest.raises(BadAddress) as refused:
        Monitor("http://host/", token)
    assert not token or token not in str(refused.value)


def test_the_token_goes_into_a_header_and_nowhere_else(stage):
    monitor = Monitor(f"{stage.url}/under/here", SECRET)
    monitor.state()
    ((path, headers),) = stage.asked
    assert path == "/under/here/json"
    assert headers.pop("Authorization") == f"Bearer {SECRET}"
    assert SECRET not in str(headers)
    assert SECRET not in repr(monitor)


def test_without_a_token_none_is_sent(stage):
    Monitor(stage.url).state()
    assert "Authorization" not in stage.asked[0][1]


@pytest.mark.parametrize("status", [401, 403])
def test_a_monitor_that_wants_a_token_says_so(stage, status):
    stage.status = status
    for token in (None, SECRET):
        with pytest.raises(Unauthorised, match="DBPOOL_MONITOR_TOKEN") as refused:
            Monitor(stage.url, token).state()
        assert SECRET not in str(refused.value)


def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else(stage):
    stage.status, stage.headers = 302, {"Location": f"{stage.url}/elsewhere"}
    with pytest.raises(Unreachable, match="302"):
        Monitor(stage.url, SECRET).state()
    assert len(stage.asked) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"version": 1, "pools": 3}', b"[" * 100_000, b"\xff\xfe", b"1e999"],
)
def test_what_is_no_state_is_not_taken_for_one(stage, body):
    stage.body = body
    with pytest.raises(Unreachable):
        Monitor(stage.url).state()


def test_a_monitor_of_another_version_is_told_apart(stage):
    stage.body = a_state(a_pool(), version=2)
    with pytest.raises(Unreachable, match="another version"):
        Monitor(stage.url).state()


def test_a_page_that_is_no_json_is_not_read(stage):
    stage.kind = "text/html\x1b[2J"
    with pytest.raises(Unreachable) as refused:
        Monitor(stage.url).state()
    assert str(refused.value).isprintable()


@pytest.mark.fault(72)
def test_an_answer_without_end_is_cut(stage, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 100)
    with pytest.raises(Unreachable, match="too long"):
        Monitor(stage.url).state()


def test_nobody_there_is_said_in_one_line():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"http://127.0.0.1:{port}/: ") as refused:
        Monitor(f"http://127.0.0.1:{port}").state()
    assert str(refused.value).isprintable()


def test_a_monitor_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        with pytest.raises(Unreachable, match="no answer in time"):
            Monitor(f"http://127.0.0.1:{mute.getsockname()[1]}").state()


def test_events_are_read_one_by_one_until_the_stream_ends(stage):
    stage.events.put(b": a comment\nretry: 2000\n\n")
    stage.events.put(b'event: history\r\ndata: {"state":\r\ndata: {"version": 1, "pools": []}}\r\n\r\n')
    stage.say("state", {"state": a_state(a_pool())})
    stage.end_stream()
    stream = Monitor(stage.url).events()
    heard = [next(stream), next(stream)]
    assert [name for name, _ in heard] == ["history", "state"]
    assert heard[1][1]["state"]["pools"][0]["name"] == "orders"
    assert next(stream, None) is None


@pytest.mark.fault(72)
def test_an_event_without_end_is_cut(stage, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 1000)
    stage.events.put(b"data: " + b"x" * 5000)
    with pytest.raises(Unreachable, match="too long"):
        next(Monitor(stage.url).events())


def test_another_thread_can_end_the_events(stage):
    stage.begin(a_pool())
    monitor = Monitor(stage.url)
    heard = []
    listening = Caller(lambda: heard.extend(name for name, _ in monitor.events()) or heard)
    eventually(lambda: monitor._socket is not None and stage.events.empty())
    monitor.hang_up()
    with suppress(Unreachable):
        assert listening.result() in (["history"], [])
    assert listening.ended


@pytest.mark.fault(70)
def test_texts_are_made_fit_to_print_and_numbers_finite(stage):
    stage.body = (
        b'{"version": 1, "pools": [{"name": "\\u001b[31m<script>\\n[bold]x[/]", "stats": {"used": NaN, "idle": 1e999, '
        b'"waiting": ' + b"9" * 400 + b', "size": 3, "a\\rb": 1}, "deep": ' + b"[" * 40 + b"]" * 40 + b"}]}"
    )
    (pool,) = Monitor(stage.url).state()["pools"]
    assert pool["name"] == "\\x1b[31m<script>\\n[bold]x[/]"
    assert pool["stats"] == {"used": None, "idle": None, "waiting": None, "size": 3, "a\\rb": 1}
    assert "None" in repr(pool["deep"])
