"""dump(): all pools of the process, on a file, whatever hangs."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading

import pytest
from fakes import OperationalError

from dbpool import dump, dump_on_signal, fork
from dbpool.dumping import _unlocked

from .threads import Caller, eventually

pytestmark = pytest.mark.synchronous


@pytest.fixture(autouse=True)
def _pools_of_this_test_alone(monkeypatch):
    monkeypatch.setattr("dbpool.standing._last", (float("-inf"), {}))  # what another test has seen
    monkeypatch.setattr(fork, "_pools", type(fork._pools)())


def dumped():
    file = io.StringIO()
    dump(file)
    return file.getvalue()


def test_a_process_without_pools_says_so():
    assert dumped() == f"dbpool: 0 pools in process {os.getpid()}\n"


def test_each_pool_tells_who_holds_and_who_waits(make, driver):
    orders, users = make(maxconn=1, name="orders", timeout=60), make(maxconn=3, name="users")
    conn = orders.getconn("a key")
    caller = Caller(orders.getconn)
    eventually(lambda: orders.stats().waiting)
    lines = dumped().splitlines()
    assert lines[0].startswith("dbpool: 2 pools")
    assert lines[1] == "ThreadedConnectionPool 'orders' 1 used, 0 idle, 0 connecting, 1 waiting, max 1"
    assert re.match(r"  held by thread 'MainThread' for \d+\.\d s, now at .*test_dumping\.py:\d+ in \w+", lines[2])
    assert re.match(r"  waiting: thread '.*' for \d+\.\d s, now at .* in ", lines[3])
    assert lines[4] == "ThreadedConnectionPool 'users' 0 used, 0 idle, 0 connecting, 0 waiting, max 3"
    assert len(lines) == 5
    orders.putconn(conn)
    orders.putconn(caller.result())
    users.close()


def test_the_kind_of_the_last_error_is_told_and_not_its_text(make, driver):
    pool = make()
    driver.fail_on = {1}
    with pytest.raises(OperationalError):
        pool.getconn()
    assert "  the last error of a connect: OperationalError\n" in dumped()
    assert "refused" not in dumped()


def test_it_works_while_a_lock_is_held(make):
    pool = make(maxconn=1)
    holding, go = threading.Event(), threading.Event()

    def hold():
        with pool._lock:
            holding.set()
            go.wait(10)

    caller = Caller(hold)
    assert holding.wait(10)
    text = Caller(dumped).result()
    go.set()
    caller.result()
    assert "max 1" in text


def test_a_state_that_changes_meanwhile_is_looked_at_again():
    looks = []

    def look(what):
        looks.append(what)
        if len(looks) < 3:
            raise RuntimeError("dictionary changed size during iteration")
        return len(looks)

    assert _unlocked(look, "x") == 3


def test_a_state_that_cannot_be_read_is_not_hidden():
    def look():
        raise RuntimeError("always")

    with pytest.raises(RuntimeError, match="always"):
        _unlocked(look)


def test_it_goes_to_stderr_unless_told_otherwise(make, capsys):
    make(name="orders")
    dump()
    assert "'orders'" in capsys.readouterr().err


def test_a_file_of_the_systems_is_written_at_once(make, tmp_path):
    make(name="注文" * 200)
    with open(tmp_path / "dump", "w", encoding="ascii") as file:
        dump(file)
        assert "\\u6ce8" not in (tmp_path / "dump").read_text("utf-8")
        assert "注文" in (tmp_path / "dump").read_text("utf-8")


def test_a_pipe_that_takes_only_a_part_at_a_time_gets_all(make, monkeypatch):
    make(name="orders")
    reader, writer = os.pipe()
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    with open(writer, "w") as file:
        dump(file)
    with open(reader) as file:
        text = file.read()
    assert text.endswith("max 2\n")


def test_a_process_without_stderr_is_no_hindrance(make, monkeypatch):
    make()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    dump()
    assert "max 2" in sys.stderr.getvalue()


def test_nor_is_one_that_has_none_at_all(make, monkeypatch):
    make()
    monkeypatch.setattr(sys, "stderr", None)
    dump()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="this system has no SIGUSR2")
@pytest.mark.parametrize("number", [None, "SIGUSR1"])
def test_it_comes_at_a_signal(make, number):
    make(name="orders")
    number, file = number and getattr(signal, number), io.StringIO()
    before = signal.getsignal(number or signal.SIGUSR2)
    try:
        dump_on_signal(number, file)
        os.kill(os.getpid(), number or signal.SIGUSR2)
        eventually(file.getvalue)
    finally:
        signal.signal(number or signal.SIGUSR2, before)
    assert "'orders'" in file.getvalue()


def test_only_the_main_thread_can_ask_for_that():
    with pytest.raises(ValueError, match="main thread"):
        Caller(dump_on_signal).result()
