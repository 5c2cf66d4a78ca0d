"""Tests of the fault proxy itself: each knob does to a socket what it says."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from faultproxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(conn: socket.socket) -> None:
            with conn:
                while data := conn.recv(4096):
                    conn.sendall(data)

        def serve() -> None:
            try:
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                pass  # closed

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as proxy:
        yield proxy


def client(proxy: FaultProxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def said(sock: socket.socket, word: bytes) -> bytes:
    """Say a word, and return what comes back, all of it."""
    sock.sendall(word)
    back = b""
    while len(back) < len(word) and (data := sock.recv(4096)):
        back += data
    return back


def nothing_comes(sock: socket.socket) -> bool:
    sock.settimeout(0.1)
    try:
        return sock.recv(1) == b"?"
    except socket.timeout:
        return True


def test_it_carries_both_ways(proxy: FaultProxy) -> None:
    with client(proxy) as sock:
        assert said(sock, b"hello" * 5000) == b"hello" * 5000
    assert proxy.accepted == 1


def test_it_delays(proxy: FaultProxy) -> None:
    proxy.delay = 0.1
    with client(proxy) as sock:
        began = time.monotonic()
        assert said(sock, b"hello") == b"hello"
        assert time.monotonic() - began >= 0.2  # both ways


def test_it_slices(proxy: FaultProxy) -> None:
    proxy.slice_to = 1
    with client(proxy) as sock:
        assert said(sock, b"hello" * 20) == b"hello" * 20
    assert proxy.pieces(b"abc") == [b"a", b"b", b"c"]


def test_it_cuts_after_so_many_bytes(proxy: FaultProxy) -> None:
    proxy.limit = 3
    with client(proxy) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b"hel"
        assert sock.recv(10) == b""


def test_a_limit_of_none_at_all_is_an_end_at_the_first_word(proxy: FaultProxy) -> None:
    proxy.limit = 0
    with client(proxy) as sock:
        sock.sendall(b"hello")
        assert sock.recv(10) == b""


def test_it_resets(proxy: FaultProxy) -> None:
    with client(proxy) as sock:
        assert said(sock, b"hello") == b"hello"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_it_swallows_and_heals_for_new_ones(proxy: FaultProxy) -> None:
    with client(proxy) as old:
        assert said(old, b"a") == b"a"
        proxy.black_hole()
        old.sendall(b"b")
        assert nothing_comes(old)
        with client(proxy) as lost:
            lost.sendall(b"c")
            assert nothing_comes(lost)
        proxy.heal()
        with client(proxy) as new:
            assert said(new, b"d") == b"d"
        old.sendall(b"e")
        assert nothing_comes(old)


def test_it_stalls_and_resumes(proxy: FaultProxy) -> None:
    with client(proxy) as sock:
        assert said(sock, b"a") == b"a"
        proxy.stall()
        sock.sendall(b"b")
        assert nothing_comes(sock)
        proxy.resume()
        sock.settimeout(5)
        assert sock.recv(1) == b"b"


def test_it_accepts_and_stays_silent(proxy: FaultProxy) -> None:
    proxy.silent = True
    with client(proxy) as sock:
        sock.sendall(b"a")
        assert nothing_comes(sock)


def test_it_refuses_and_accepts_again(proxy: FaultProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        client(proxy)
    proxy.accept()
    with client(proxy) as sock:
        assert said(sock, b"a") == b"a"


def test_it_forgets_what_is_unused(proxy: FaultProxy) -> None:
    proxy.forgets_after = 0.05
    with client(proxy) as sock:
        assert said(sock, b"a") == b"a"
        time.sleep(0.1)
        sock.sendall(b"b")
        assert nothing_comes(sock)


def test_it_answers_in_place_of_the_server(proxy: FaultProxy) -> None:
    proxy.answer = b"no"
    with client(proxy) as sock:
        assert sock.recv(10) == b"no"
