"""Sockets over a pool, of each kind and in both shells: what is alive and clean is pooled, all else is closed."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import warnings

import pytest

from .checks import adds_up, lease_all
from .hosts import HERE, Host, hang_up, has_ipv6, papers_in, reset
from .scenes import Loop, Scene, Threads
from .threads import eventually

KINDS = ("tcp", "tcp6", "tls", "unix")


@pytest.fixture(params=[Threads, Loop])
def shell(request):
    """How one talks, and the class of the pool."""
    return request.param()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Issues certificates."""
    return papers_in(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="session")
def certificate(authority):
    """The server's."""
    return authority.issue("good", HERE)


@pytest.fixture
def scene(request, shell, tmp_path):
    """A scene of the kind of the test's parameter; TCP over IPv4 if it has none."""
    kind = getattr(request, "param", "tcp")
    options = {}
    if kind == "unix":
        host = Host(socket.AF_UNIX, str(tmp_path / "socket"))
        arguments = (host.address,)
    elif kind == "tcp6":
        has_ipv6()
        host = Host(socket.AF_INET6, ("::1", 0))
        kind, arguments = "tcp", ("::1", host.port)
    elif kind == "tls":
        authority, certificate = (request.getfixturevalue(name) for name in ("authority", "certificate"))
        host = Host(context=certificate.context())
        arguments, options = (HERE, host.port), {"context": ssl.create_default_context(cafile=authority.file)}
    else:
        host = Host()
        arguments = (HERE, host.port)
    scene = Scene(shell, kind, host, *arguments, **options)
    yield scene
    for pool in scene.pools:
        pool.close(timeout=0)
    host.end()


every_kind = pytest.mark.parametrize("scene", KINDS, indirect=True)


# ---- what is pooled --------------------------------------------------------------------------------------------------


@every_kind
def test_a_socket_is_used_again(scene):
    pool = scene.pool()
    conn = pool.getconn()
    assert scene.echo(conn)
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert scene.echo(conn, b"once more")
    pool.putconn(conn)
    assert pool.stats().opened == 1
    lease_all(pool)
    assert adds_up(pool)


@every_kind
def test_a_new_one_that_was_never_read_from_is_used_again(scene):
    """A TLS server sends tickets after its handshake: nobody has read them yet, and they are not the user's."""
    pool = scene.pool(1, check_after=0)
    conn = pool.getconn()
    scene.peer()
    for _ in range(3):
        pool.putconn(conn)
        assert pool.getconn() is conn
    assert scene.echo(conn)
    pool.putconn(conn)
    assert pool.stats().discards == {}


@every_kind
def test_one_with_unread_bytes_is_closed_at_put(scene):
    pool = scene.pool()
    conn = pool.getconn()
    scene.shell.send(conn, b"two words")
    assert scene.shell.hear(conn, 3) == b"two"
    pool.putconn(conn)
    assert pool.stats().discards == {"not clean": 1}
    assert pool.stats().idle == 0


@every_kind
def test_what_comes_unasked_while_it_is_idle_goes_to_nobody(scene):
    pool = scene.pool(1)
    conn = pool.getconn()
    assert scene.echo(conn)
    pool.putconn(conn)
    scene.peer().sendall(b"421 idle for too long")
    eventually(lambda: pool._opener.connector.unfit(conn))
    other = pool.getconn()
    assert other is not conn
    assert scene.echo(other)
    pool.putconn(other)


@every_kind
def test_one_that_its_user_has_closed_is_not_pooled(scene):
    pool = scene.pool()
    conn = pool.getconn()
    scene.shell.end(conn)
    pool.putconn(conn)
    assert pool.stats().idle == 0
    lease_all(pool)


@every_kind
@pytest.mark.parametrize("watched", [True, False])
def test_one_that_the_peer_has_closed_while_it_was_idle_is_not_handed_out(scene, watched):
    pool = scene.pool(1, background=watched)
    conn = pool.getconn()
    assert scene.echo(conn)
    pool.putconn(conn)
    hang_up(scene.peer())
    eventually(lambda: pool._opener.connector.is_lost(conn) or conn.fileno() < 0)
    other = pool.getconn()
    assert other is not conn
    assert scene.echo(other)
    pool.putconn(other)
    assert sum(pool.stats().discards.values()) == 1


@every_kind
def test_the_watch_closes_what_the_peer_has_closed_though_nobody_asks(scene):
    pool = scene.pool()
    conn = pool.getconn()
    assert scene.echo(conn)
    pool.putconn(conn)
    hang_up(scene.peer())
    eventually(lambda: pool.stats().discards == {"lost": 1})
    eventually(lambda: pool.stats().size == 0)


@every_kind
def test_one_that_the_peer_has_half_closed_is_not_pooled(scene):
    pool = scene.pool(background=False)
    conn = pool.getconn()
    assert scene.echo(conn)
    scene.peer().shutdown(socket.SHUT_WR)
    eventually(lambda: pool._opener.connector.is_lost(conn))
    pool.putconn(conn)
    assert pool.stats().discards == {"lost": 1}


@pytest.mark.parametrize("scene", ["tcp", "tcp6"], indirect=True)
def test_one_that_was_reset_is_not_handed_out(scene):
    pool = scene.pool(1, background=False)
    conn = pool.getconn()
    pool.putconn(conn)
    peer = scene.peer()
    hang_up_reader = peer.dup()
    reset(peer)
    hang_up(hang_up_reader)
    hang_up_reader.close()
    eventually(lambda: pool._opener.connector.unfit(conn))
    other = pool.getconn()
    assert other is not conn
    assert scene.echo(other)
    pool.putconn(other)


@every_kind
def test_a_dropped_one_is_noticed_and_closed(scene):
    pool = scene.pool(1)
    conn = pool.getconn()
    assert scene.echo(conn)
    peer = scene.peer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # who records the socket's own has the socket
        del conn
        gc.collect()
        lease_all(pool)
    assert pool.stats().discards == {"dropped": 1}
    eventually(lambda: peer is not scene.peer() and _is_ended(peer))
    assert adds_up(pool)


def _is_ended(peer):
    """Its client is gone: the thread that read from it has ended."""
    from dbpool.watch import is_hung_up

    return peer.fileno() < 0 or is_hung_up(peer.fileno())


@every_kind
def test_closing_the_pool_closes_all(scene):
    pool = scene.pool()
    conns = [pool.getconn() for _ in range(2)]
    for conn in conns:
        assert scene.echo(conn)
    pool.putconn(conns.pop())
    pool.closeall()
    eventually(lambda: all(map(_is_ended, scene.host.accepted)))
    assert pool.stats().size == 0


# ---- with blocks -----------------------------------------------------------------------------------------------------


@every_kind
def test_a_block_commits_and_rolls_back_nothing_and_does_not_even_look(scene, monkeypatch):
    pool = scene.pool()
    connector = pool._opener.connector
    looks = []
    dirty = connector.dirty
    monkeypatch.setattr(connector, "dirty", lambda conn: looks.append(conn) or dirty(conn))
    with pool.connection() as conn:
        assert scene.echo(conn)
    assert pool.stats().idle == 1
    assert pool._pending(conn) is False
    assert len(looks) <= 2  # of the put, none of the block
    with pytest.raises(KeyError), pool.connection():
        raise KeyError("of the program's")
    assert pool.stats().idle == 1


@every_kind
def test_a_block_that_a_broken_conversation_has_left_closes_its_socket(scene):
    """What was asked may be answered later, and then to the next user."""
    pool = scene.pool(1)
    for error in (scene.shell.spoilt, ConnectionError, EOFError, KeyboardInterrupt):
        if scene.shell.prefix and error is KeyboardInterrupt:
            continue  # it would end the test's loop
        with pytest.raises(error), pool.connection():
            raise error
        eventually(lambda: pool.stats().size == 0)
    assert set(pool.stats().discards) == {"interrupted"}
    lease_all(pool)


# ---- pings and resets ------------------------------------------------------------------------------------------------


@every_kind
def test_a_ping_is_an_exchange_of_bytes(scene):
    pool = scene.pool(ping=(b"ping\n", b"ping\n"), ping_after=0)
    for _ in range(3):
        with pool.connection() as conn:
            assert scene.echo(conn)
    assert pool.stats().opened == 1


@every_kind
@pytest.mark.parametrize("expected", [b"pong\n", b"pin"])
def test_a_ping_that_is_answered_by_something_else_or_more_closes_it(scene, expected):
    pool = scene.pool(ping=(b"ping\n", expected))
    pool.putconn(pool.getconn())
    pool.check()
    assert pool.stats().discards == {"lost": 1}


@every_kind
def test_a_ping_that_nobody_answers_is_cut_off(scene):
    pool = scene.pool(ping=(b"ping\n", b"ping\nand more"), check_timeout=0.05)
    pool.putconn(pool.getconn())
    pool.check()
    eventually(lambda: pool.stats().size == 0)
    assert pool.stats().discards == {"lost": 1}


@every_kind
def test_a_ping_that_the_peer_ends_says_so_without_its_bytes(scene):
    pool = scene.pool(ping=(b"secret\n", b"never"), background=False)
    pool.putconn(pool.getconn())
    hang_up(scene.peer())
    pool.check()
    eventually(lambda: pool.stats().size == 0)
    assert "secret" not in str(pool._state.last_error)


@every_kind
def test_a_ping_may_be_a_function(scene):
    asked = []
    pool = scene.pool(ping=asked.append)
    conn = pool.getconn()
    pool.putconn(conn)
    pool.check()
    assert asked == [conn]


def test_a_ping_may_be_an_asynchronous_function(scene):
    asked = []

    async def ping(conn):
        asked.append(conn)

    if not scene.shell.prefix:
        pytest.skip("in threads it would be awaited by nobody")
    pool = scene.pool(ping=ping)
    conn = pool.getconn()
    pool.putconn(conn)
    pool.check()
    assert asked == [conn]


@every_kind
def test_a_reset_is_run_at_each_return_and_may_read_what_is_left(scene):
    def drain(conn):
        if not scene.shell.prefix:
            conn.recv(100)

    async def drain_awaited(conn):
        await conn.reader.read(100)

    pool = scene.pool(1, reset=drain_awaited if scene.shell.prefix else drain)
    conn = pool.getconn()
    scene.shell.send(conn, b"hello")
    pool.putconn(conn)
    assert pool.getconn() is conn
    scene.shell.send(conn, b"hello")
    pool.putconn(conn)
    assert pool.stats().discards == {}


# ---- what it is set to -----------------------------------------------------------------------------------------------


def _option(conn, level, name):
    with contextlib.closing(socket.socket(fileno=socket.dup(conn.fileno()))) as sock:
        return sock.getsockopt(level, name)


@pytest.mark.parametrize("scene", ["tcp", "tls"], indirect=True)
@pytest.mark.parametrize(("options", "expected"), [({}, (1, 1)), ({"nodelay": False, "keepalive": False}, (0, 0))])
def test_nodelay_and_keepalive_are_on_unless_they_are_named(scene, options, expected):
    pool = scene.shell.kind(0, 1, connect=scene.connector(**options))
    scene.pools.append(pool)
    conn = pool.getconn()
    nodelay = _option(conn, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    keepalive = _option(conn, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert (bool(nodelay), bool(keepalive)) == tuple(map(bool, expected))
    pool.putconn(conn)


def test_keepalive_takes_the_seconds_of_silence(scene):
    pool = scene.shell.kind(0, 1, connect=scene.connector(keepalive=33))
    scene.pools.append(pool)
    with pool.connection() as conn:
        assert _option(conn, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33


@every_kind
def test_a_connection_takes_attributes(scene):
    pool = scene.pool(on_connect=lambda conn: setattr(conn, "met", "at the door"))
    with pool.connection() as conn:
        assert conn.met == "at the door"


@pytest.mark.parametrize("scene", ["tcp", "tls", "unix"], indirect=True)
def test_the_time_out_that_a_user_sets_is_set_back(scene):
    if scene.shell.prefix:
        pytest.skip("a stream has none")
    pool = scene.shell.kind(0, 1, connect=scene.connector(timeout=7))
    scene.pools.append(pool)
    conn = pool.getconn()
    assert conn.gettimeout() == 7
    conn.settimeout(0.5)
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert conn.gettimeout() == 7
    pool.putconn(conn)
