"""Who is let in: loopback only without a token, known names, our own pages; and nobody else changes anything."""

from __future__ import annotations

import json
import socket

import pytest

from dbpool.monitor import asgi_app, pool_monitor, wsgi_app
from dbpool.monitor import guard as guards
from dbpool.monitor.guard import Guard
from dbpool.monitor.messages import POLICY, Request

from .asks import HOST, TOKEN, get, header

SECRETS = ("/json", "/events", "/metrics", "/bundle")
ORIGIN = f"http://{HOST}"
FOREIGN = [
    "evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "10.0.0.1", "localhost:@evil.example",
    "localhost:80:80",
]  # fmt: skip
FORM = "application/x-www-form-urlencoded"


@pytest.mark.fault(69)
@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "example.com"])
def test_without_a_token_no_address_is_bound_that_others_can_reach(host, monkeypatch):
    def no_socket(*args, **kwargs):
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(ValueError, match="token"):
        pool_monitor(0, host)


@pytest.mark.fault(69)
def test_with_a_token_it_may_be_bound_for_all(serve):
    monitor = serve(host="0.0.0.0", token=TOKEN)
    assert get(monitor, "/json").status == 401
    assert get(monitor, "/json", authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "with a newline\nin its midst", "ünicode-ünicode-ünicode", " " * 20]
)
def test_a_token_that_cannot_be_one_is_refused(token):
    with pytest.raises(ValueError, match="token"):
        pool_monitor(0, token=token)


@pytest.mark.parametrize("token", [b"x" * 20, 12345678901234567890, True])
def test_a_token_is_a_text(token):
    with pytest.raises(TypeError, match="token"):
        wsgi_app(token=token)


@pytest.mark.fault(69)
@pytest.mark.parametrize("path", SECRETS)
def test_who_has_no_token_learns_nothing(path, routes, make):
    make(name="not-to-be-seen")
    client = routes(token=TOKEN)
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"cookie": f"{Guard(TOKEN)._cookie}={TOKEN}"},
    ):
        answer = client.ask(path, **headers)
        assert answer.status == 401
        assert b"not-to-be-seen" not in answer.body
        assert "Bearer" in header(answer, "www-authenticate")


@pytest.mark.fault(69)
@pytest.mark.parametrize("path", SECRETS)
@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "dbpool_monitor"])
def test_a_token_in_the_address_is_never_read(path, name, routes):
    assert routes(token=TOKEN).ask(path, query=f"{name}={TOKEN}").status == 401


def test_the_page_sends_who_has_no_token_to_the_login(routes):
    client = routes(token=TOKEN)
    answer = client.ask("/")
    assert (answer.status, header(answer, "location")) == (303, "login")
    assert b'type="password"' in client.ask("/login").body


def login(client, token, **headers):
    body = f"token={token}".encode()
    return client.ask("/login", "POST", body, **{"origin": ORIGIN, "content_type": FORM, **headers})


def test_a_login_gives_a_cookie_which_is_not_the_token(routes):
    client = routes(token=TOKEN)
    answer = login(client, TOKEN)
    cookie = header(answer, "set-cookie")
    assert answer.status == 303
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.ask("/json", cookie=f"other=1; {cookie.partition(';')[0]}").status == 200


def test_a_login_with_another_token_gives_none(routes):
    answer = login(routes(token=TOKEN), TOKEN[:-1])
    assert answer.status == 401
    assert header(answer, "set-cookie") is None


@pytest.mark.parametrize(("header_name", "value"), [("origin", "http://evil.example"), ("content_type", "text/plain")])
def test_a_login_from_elsewhere_is_refused(routes, header_name, value):
    assert login(routes(token=TOKEN), TOKEN, **{header_name: value}).status in (403, 415)


def test_a_session_ends(routes, monkeypatch):
    client = routes(token=TOKEN)
    cookie = header(login(client, TOKEN), "set-cookie").partition(";")[0]
    now = guards.time()
    monkeypatch.setattr(guards, "time", lambda: now + guards.SESSION + 1)
    assert client.ask("/json", cookie=cookie).status == 401


@pytest.mark.parametrize("change", ["9999999999.", "later", "other"])
def test_a_session_that_was_made_up_is_none(routes, change):
    client = routes(token=TOKEN)
    name, _, value = header(login(client, TOKEN), "set-cookie").partition(";")[0].partition("=")
    until, _, signature = value.partition(".")
    forged = {"9999999999.": "9999999999.", "later": f"{int(until) + 1}.{signature}", "other": f"{until}.{'0' * 64}"}
    assert client.ask("/json", cookie=f"{name}={forged[change]}").status == 401


def test_a_session_holds_in_each_process_with_the_same_token_and_no_other():
    cookie = Guard(TOKEN).cookie(Request("POST", "/login")).partition(";")[0]
    asked = Request("GET", "/json", headers={"cookie": cookie})
    assert Guard(TOKEN).is_let_in(asked)
    assert not Guard("another-token-of-24-char").is_let_in(asked)


def test_over_https_the_cookie_is_for_https_only():
    assert "; Secure" in Guard(TOKEN).cookie(Request("POST", "/login", secure=True))
    assert "; Secure" not in Guard(TOKEN).cookie(Request("POST", "/login"))


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "",
        "[",
        "10.0.0.1",
        "localhost:@evil.example",
        "localhost:80:80",
    ],
)
@pytest.mark.parametrize("path", ["/", "/json", "/static/style.css", "/login", "/nothing"])
def test_a_name_that_leads_here_but_is_not_ours_is_refused(routes, host, path):
    assert routes().ask(path, host=host).status == 421


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "127.0.0.1:8765", "[::1]:8765", "[::1]", "LOCALHOST"]
)
def test_the_machines_own_names_are_known(routes, host):
    assert routes().ask("/json", host=host).status == 200


def test_more_names_can_be_given(routes):
    client = routes(hosts=["Pools.example", "other.example:8080"])
    assert client.ask("/json", host="pools.example").status == 200
    assert client.ask("/json", host="pools.example:443").status == 200
    assert client.ask("/json", host="other.example:8080").status == 200
    assert client.ask("/json", host="other.example:8081").status == 421


@pytest.mark.parametrize("hosts", ["localhost", [1], [""]])
def test_hosts_are_names(hosts):
    with pytest.raises(TypeError, match="hosts"):
        asgi_app(hosts=hosts)


def test_bound_for_all_a_number_is_known_and_a_name_is_not():
    guard = Guard(TOKEN, bound="0.0.0.0")
    known = [
        host for host in ("192.0.2.7:80", "[2001:db8::1]", "evil.example") if guard.refuse(request(host=host)) is None
    ]
    assert known == ["192.0.2.7:80", "[2001:db8::1]"]


def request(method="GET", path="/json", **headers):
    return Request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


# ---- other pages -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(69)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://"])
@pytest.mark.parametrize("path", SECRETS)
def test_a_page_of_another_origin_reads_nothing(routes, origin, path):
    assert routes().ask(path, origin=origin).status == 403


def test_a_page_of_another_site_reads_nothing_but_may_link_to_the_page(routes):
    client = routes()
    assert client.ask("/json", sec_fetch_site="cross-site").status == 403
    assert client.ask("/", sec_fetch_site="cross-site").status == 200


@pytest.mark.fault(69)
@pytest.mark.parametrize("path", ["/json", "/", "/metrics", "/actions/drain", "/nothing"])
def test_nothing_can_be_posted_unless_actions_are_on(routes, make, path):
    make()
    assert routes().ask(path, "POST", b"{}", origin=ORIGIN, content_type="application/json").status in (404, 405)


GOOD = {"origin": ORIGIN, "content_type": "application/json"}


@pytest.mark.fault(69)
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"x_csrf_token": None}, 403),
        ({"x_csrf_token": "0" * 64}, 403),
        ({"origin": None}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": FORM}, 415),
        ({"content_type": None}, 415),
        ({"host": "evil.example"}, 421),
        ({}, 200),
    ],
)
def test_an_action_needs_our_own_page_and_its_csrf_token(routes, make, driver, change, status):
    make(1)
    client = routes(actions=True)
    state = client.state()
    body = json.dumps({"pool": state["pools"][0]["id"]}).encode()
    given = {**GOOD, "x_csrf_token": state["csrf"], **change}
    assert client.ask("/actions/drain", "POST", body, **given).status == status
    assert driver.made[0].closed == (status == 200)


@pytest.mark.fault(69)
def test_an_action_needs_the_token_too(routes, make):
    make()
    client = routes(actions=True, token=TOKEN)
    csrf = client.routes.guard.csrf
    assert client.ask("/actions/drain", "POST", b"{}", **GOOD, x_csrf_token=csrf).status == 401


def test_without_actions_the_state_has_no_csrf_token(routes):
    state = routes().state()
    assert (state["actions"], state["csrf"]) == (False, None)


def test_the_csrf_token_is_not_the_token(routes):
    client = routes(actions=True, token=TOKEN)
    assert TOKEN not in client.routes.guard.csrf
    assert client.routes.guard.csrf == Guard(TOKEN).csrf != Guard("another-token-of-24-char").csrf


def test_without_a_token_each_monitor_has_a_csrf_token_of_its_own():
    assert Guard(None).csrf != Guard(None).csrf


@pytest.mark.parametrize("path", ["/", "/json", "/metrics", "/static/style.css", "/nothing", "/login", "/events"])
@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_each_answer_says_what_a_browser_may_do_with_it(routes, path, headers):
    answer = routes().ask(path, **headers)
    if answer.stream is not None:
        answer.stream.close()
    assert header(answer, "content-security-policy") == POLICY
    assert "unsafe" not in POLICY
    assert header(answer, "x-content-type-options") == "nosniff"
    assert header(answer, "referrer-policy") == "same-origin"
    assert header(answer, "cross-origin-opener-policy") == "same-origin"
    assert header(answer, "cross-origin-resource-policy") == "same-origin"
    assert header(answer, "cache-control") in ("no-store", "no-cache")
    assert header(answer, "access-control-allow-origin") is None


def test_tokens_are_compared_in_constant_time(routes, monkeypatch):
    compared = []
    monkeypatch.setattr(guards.hmac, "compare_digest", lambda one, other: compared.append(one) or one == other)
    routes(token=TOKEN).ask("/json", authorization="Bearer guessed")
    assert compared == [b"guessed"]


def test_monitors_of_one_host_do_not_take_each_others_cookies():
    one, other = (Guard(token).cookie(Request("POST", "/login")).partition("=")[0] for token in (TOKEN, TOKEN[::-1]))
    assert one != other
