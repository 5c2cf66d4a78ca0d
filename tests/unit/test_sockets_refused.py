"""Sockets that lead nowhere, or to the wrong one: refused in time, with a reason; nothing stays open."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import contextmanager

import pytest
from onloop import OnLoop, run

import dbpool
from dbpool import AsyncConnectionPool, PoolTimeout, ThreadedConnectionPool
from dbpool.connectors import peers, sockets

from .hosts import GREETING_OF_OTHERS, HERE, Host, closed_port, crowded, has_ipv6, papers_in
from .sockets import descriptors
from .threads import Caller, eventually

LONG, LATE = 5.0, 1.0  # seconds: what nobody waits for; what a busy machine may cost


@pytest.fixture(params=["", "Async"])
def prefix(request):
    """Of the names of the shell's connectors."""
    return request.param


@pytest.fixture
def connect(prefix):
    """Open a connection by a connector alone, and close it."""

    def connect(kind, *args, **options):
        connector = getattr(dbpool, f"{prefix}{kind}Connector")(*args, **options)

        async def opened():
            conn = await connector.connect()
            await connector.close(conn)

        if prefix:
            run(opened())
        else:
            connector.close(connector.connect())

    return connect


@pytest.fixture
def make(prefix):
    """Make a pool over a connector."""
    pools = []

    def make(kind, *args, config=None, **options):
        connector = getattr(dbpool, f"{prefix}{kind}Connector")(*args, **options)
        pool = (OnLoop if prefix else ThreadedConnectionPool)(
            0, 2, connect=connector, config={"detect_deadlock": False, **(config or {})}
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(timeout=0)


@contextmanager
def hosted(*args, **options):
    """A host for a block."""
    host = Host(*args, **options)
    try:
        yield host
    finally:
        host.end()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Issues certificates."""
    return papers_in(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def trusting(authority):
    """A context for clients that know the authority."""
    return ssl.create_default_context(cafile=authority.file)


# ---- nobody there ----------------------------------------------------------------------------------------------------


def test_who_refuses_is_named(connect):
    port = closed_port()
    with pytest.raises(ConnectionRefusedError, match=f"{HERE}:{port}"):
        connect("Tcp", HERE, port)


def test_a_path_where_nobody_listens_is_named(connect, tmp_path):
    with pytest.raises(FileNotFoundError, match="nobody"):
        connect("Unix", tmp_path / "nobody")


def test_a_name_that_nobody_knows_is_refused_for_good(connect, make):
    with pytest.raises(socket.gaierror):
        connect("Tcp", "nobody.invalid", 7)
    pool = make("Tcp", HERE, 7)
    assert pool._opener.refusal(socket.gaierror(socket.EAI_NONAME, "unknown")) == "permanent"
    assert pool._opener.refusal(socket.gaierror(socket.EAI_AGAIN, "try later")) == "transient"


@pytest.mark.parametrize("which", ["Tcp", "Tls"])
def test_who_does_not_answer_is_left_when_connect_timeout_is_over(connect, which):
    began = time.monotonic()
    for port in crowded():
        with pytest.raises(TimeoutError, match=rf"no connection to {HERE}:{port} within 0\.2 s"):
            connect(which, HERE, port, connect_timeout=0.2)
    assert time.monotonic() - began < 0.2 + LATE


def test_who_accepts_and_does_not_shake_hands_is_left_too(connect):
    began = time.monotonic()
    with hosted(listens=False) as host:
        with pytest.raises(TimeoutError, match=r"no connection to .* within 0\.2 s"):
            connect("Tls", HERE, host.port, connect_timeout=0.2)
    assert time.monotonic() - began < 0.2 + LATE


def test_the_pools_own_limit_holds_for_a_connector_without_one(make):
    with hosted(listens=False) as host:
        pool = make("Tls", HERE, host.port, connect_timeout=None, config={"connect_timeout": 0.1, "timeout": LONG})
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.3)


def test_a_unix_server_whose_queue_is_full_is_waited_for(make, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            pool = make("Unix", path, config={"timeout": 0.2})
            with pytest.raises(PoolTimeout) as caught:
                pool.getconn()
            assert isinstance(caught.value.__cause__, BlockingIOError)
            assert path in str(caught.value.__cause__)


def test_a_server_that_comes_back_is_waited_for(make):
    port = closed_port()
    pool = make("Tcp", HERE, port, config={"timeout": LONG})
    hosts = []

    def connect_late():
        eventually(lambda: pool.stats().connect_errors)
        hosts.append(Host(address=(HERE, port)))

    late = Caller(connect_late)
    pool.putconn(pool.getconn())
    late.result()
    pool.close()
    hosts[0].end()


# ---- several addresses -----------------------------------------------------------------------------------------------


@pytest.fixture
def named(monkeypatch):
    """Have the name "several.test" stand for addresses, of which each has a port of its own."""

    def named(*addresses):
        rows = [
            (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM, 6, address)
            for address in addresses
        ]
        monkeypatch.setattr(peers.TcpPeer, "addresses", lambda self, flags=0: [] if flags else rows)

    return named


def test_each_address_is_tried_until_one_answers(connect, named):
    has_ipv6()
    with hosted() as host:
        named(("::1", closed_port()), (HERE, closed_port()), (HERE, host.port))
        connect("Tcp", "several.test", 7)
        eventually(lambda: len(host.accepted) == 1)


def test_an_address_that_does_not_answer_takes_no_more_than_its_share(connect, named):
    began = time.monotonic()
    with hosted() as host:
        for port in crowded():
            named((HERE, port), (HERE, host.port))
            connect("Tcp", "several.test", 7, connect_timeout=0.4)
    assert 0.2 <= time.monotonic() - began < 0.4 + LATE


def test_if_none_answers_the_last_ones_error_is_told(connect, named):
    for port in crowded():
        named((HERE, port), (HERE, closed_port()))
        with pytest.raises(ConnectionRefusedError, match=r"several\.test:7"):
            connect("Tcp", "several.test", 7, connect_timeout=0.4)


def test_localhost_is_found_by_its_name(connect):
    with hosted() as host:
        connect("Tcp", "localhost", host.port)
        eventually(lambda: len(host.accepted) == 1)


# ---- TLS fails closed ------------------------------------------------------------------------------------------------


def test_an_expired_certificate_is_refused(connect, authority, trusting):
    with hosted(context=authority.issue("expired", HERE, days=-1).context()) as host:
        with pytest.raises(ssl.SSLCertVerificationError, match=rf"no TLS with {HERE}:{host.port}: .*has expired"):
            connect("Tls", HERE, host.port, context=trusting)


def test_a_certificate_for_another_host_is_refused(connect, authority, trusting):
    with hosted(context=authority.issue("elsewhere", "elsewhere.test").context()) as host:
        with pytest.raises(ssl.SSLCertVerificationError, match=r"no TLS with .*(mismatch|not valid for)"):
            connect("Tls", HERE, host.port, context=trusting)


def test_server_hostname_is_the_name_that_is_verified(connect, authority, trusting):
    with hosted(context=authority.issue("elsewhere", "elsewhere.test").context()) as host:
        connect("Tls", HERE, host.port, context=trusting, server_hostname="elsewhere.test")


def test_an_authority_that_nobody_named_is_refused_by_default(connect, authority):
    with hosted(context=authority.issue("good", HERE).context()) as host:
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            connect("Tls", HERE, host.port)


def test_an_answer_in_plain_text_is_told_as_such(connect, trusting):
    with hosted(says=GREETING_OF_OTHERS) as host:
        with pytest.raises(ssl.SSLError, match=rf"{HERE}:{host.port}: .*it does not speak TLS on this port"):
            connect("Tls", HERE, host.port, context=trusting)


def test_what_stays_wrong_fails_all_at_once_and_what_may_pass_is_waited_for(make, authority, trusting):
    began = time.monotonic()
    with hosted(context=authority.issue("expired", HERE, days=-1).context()) as host:
        pool = make("Tls", HERE, host.port, context=trusting, config={"timeout": LONG})
        with pytest.raises(ssl.SSLCertVerificationError):
            pool.getconn()
    assert time.monotonic() - began < LONG / 2
    refusal = pool._opener.refusal
    assert [refusal(kind()) for kind in (ConnectionRefusedError, ConnectionResetError, ssl.SSLEOFError)] == [
        "transient"
    ] * 3
    assert (refusal(PermissionError()), refusal(ValueError()), refusal(PoolTimeout())) == ("permanent", None, None)


def test_a_refused_connection_leaves_no_descriptor(connect, authority, trusting, tmp_path):
    with hosted(context=authority.issue("expired", HERE, days=-1).context()) as wrong, hosted(says=b"no") as plain:

        def fail(kind, *args, **options):
            with pytest.raises(OSError):  # noqa: PT011 (of any kind)
                connect(kind, *args, **options)

        def fail_all():
            fail("Tls", HERE, wrong.port, context=trusting)
            fail("Tls", HERE, plain.port, context=trusting, connect_timeout=0.05)
            fail("Tcp", HERE, closed_port())
            fail("Unix", tmp_path / "nobody")

        def open_here():
            return descriptors() - len(wrong.accepted) - len(plain.accepted)

        fail_all()
        eventually(lambda: len(wrong.errors) == 1)
        before = open_here()
        fail_all()
        eventually(lambda: open_here() <= before)


# ---- what is given wrongly -------------------------------------------------------------------------------------------


WRONG = [
    ("Tcp", (5, 7), {}, TypeError, "host"),
    ("Tcp", ("", 7), {}, ValueError, "host"),
    ("Tcp", (HERE, "7"), {}, TypeError, "port"),
    ("Tcp", (HERE, True), {}, TypeError, "port"),
    ("Tcp", (HERE, 0), {}, ValueError, "port"),
    ("Tcp", (HERE, 65536), {}, ValueError, "port"),
    ("Tcp", (HERE, 7), {"connect_timeout": -1}, ValueError, "connect_timeout"),
    ("Tcp", (HERE, 7), {"connect_timeout": 0}, ValueError, "connect_timeout"),
    ("Tcp", (HERE, 7), {"connect_timeout": float("nan")}, ValueError, "connect_timeout"),
    ("Tcp", (HERE, 7), {"connect_timeout": "1"}, TypeError, "connect_timeout"),
    ("Tcp", (HERE, 7), {"nodelay": 1}, TypeError, "nodelay"),
    ("Tcp", (HERE, 7), {"keepalive": "yes"}, TypeError, "keepalive"),
    ("Tcp", (HERE, 7), {"keepalive": 0}, ValueError, "keepalive"),
    ("Tcp", (HERE, 7), {"ping": b"ping"}, TypeError, "ping"),
    ("Tcp", (HERE, 7), {"ping": (b"ping", "pong")}, TypeError, "ping"),
    ("Tcp", (HERE, 7), {"ping": (b"ping", b"")}, TypeError, "ping"),
    ("Tcp", (HERE, 7), {"reset": 5}, TypeError, "reset"),
    ("Tls", (HERE, 7), {"context": "tls"}, TypeError, "context"),
    ("Tls", (HERE, 7), {"context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, ValueError, "context"),
    ("Tls", (HERE, 7), {"server_hostname": 5}, TypeError, "server_hostname"),
    ("Tls", (HERE, 7), {"server_hostname": ""}, ValueError, "server_hostname"),
    ("Unix", (5,), {}, TypeError, "path"),
    ("Unix", ("",), {}, ValueError, "path"),
]


@pytest.mark.parametrize(("which", "args", "options", "error", "name"), WRONG)
def test_what_is_wrong_is_refused_by_name(prefix, which, args, options, error, name):
    with pytest.raises(error, match=rf"^{name} (must|is)"):
        getattr(dbpool, f"{prefix}{which}Connector")(*args, **options)


@pytest.mark.parametrize(("name", "options"), [("Tcp", {"timeout": 0}), ("AsyncTcp", {"limit": 0})])
def test_so_is_what_only_one_shell_has(name, options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must"):
        getattr(dbpool, f"{name}Connector")(HERE, 7, **options)


@pytest.mark.parametrize("level", ["none", "session"])
def test_a_level_of_reset_that_sockets_cannot_have_is_refused(prefix, level):
    kind = AsyncConnectionPool if prefix else ThreadedConnectionPool
    connector = getattr(dbpool, f"{prefix}TcpConnector")(HERE, 7)
    with pytest.raises(ValueError, match=f"reset='{level}'"):
        kind(0, 1, connect=connector, config={"reset": level})


def test_arguments_for_connect_belong_to_the_connector(make):
    with pytest.raises(TypeError, match="connect"):
        ThreadedConnectionPool(1, 1, HERE, 7, connect=dbpool.TcpConnector(HERE, 7))


def test_nothing_of_a_ping_is_shown():
    connector = sockets.TcpConnector(HERE, 7, ping=(b"AUTH hunter2", b"OK"))
    assert not re.search("hunter2", f"{connector!r} {vars(connector)}")
