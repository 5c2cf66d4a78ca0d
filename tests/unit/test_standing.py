"""Where threads stand in the program, as faulthandler tells it."""

from __future__ import annotations

import os
import re
import threading

import pytest

from dbpool import standing

from .threads import eventually

LIBRARY = standing.LIBRARY
DUMP = f"""\
Thread 0x000000000000000a (most recent call first):
  File "{LIBRARY}threading.py", line 320 in wait
  File "/app/orders.py", line 12 in take
  File "/app/main.py", line 3 in <module>

Thread 0x000000000000000b [a name] (most recent call first):
  File "{standing.HOME}shell.py", line 5 in _obtain
  File "{LIBRARY}queue.py", line 9 in get
  File "{LIBRARY}threading.py", line 320 in run

Thread 0x000000000000000c (most recent call first):
  File "{standing.HOME}shell.py", line 6 in _obtain

Current thread 0x000000000000000d (most recent call first):
  File "{LIBRARY}site-packages/flask/app.py", line 7 in run
  File "/app/main.py", line 4 in <module>
"""


@pytest.fixture(autouse=True)
def _seen_by_nobody(monkeypatch):
    monkeypatch.setattr(standing, "_last", (float("-inf"), {}))


def test_here_is_the_innermost_place_outside_the_package():
    assert re.fullmatch(r".*test_standing\.py:\d+ in test_here_is_the_innermost_\w+", standing.here())


def test_here_is_the_outermost_place_if_all_is_the_packages(monkeypatch):
    monkeypatch.setattr(standing, "HOME", "")  # every file begins so
    assert " in " in standing.here()


def test_each_thread_is_told_by_the_programs_own_innermost_place():
    assert standing._read(DUMP) == {
        10: "/app/orders.py:12 in take",
        11: f"{LIBRARY}queue.py:9 in get",
        13: f"{LIBRARY}site-packages/flask/app.py:7 in run",
    }


def test_names_that_are_not_ascii_are_read():
    text = 'Thread 0x1 (most recent call first):\n  File "/app/\\u6ce8.py", line 1 in f\\xfcr\n'
    assert standing._read(text) == {1: "/app/注.py:1 in für"}


@pytest.mark.parametrize("memfd", [True, False])
def test_now_finds_threads_where_they_are(monkeypatch, memfd):
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    go, there = threading.Event(), threading.Event()

    def stand_in_the_program():
        there.set()
        go.wait(10)

    thread = threading.Thread(target=stand_in_the_program)
    thread.start()
    assert there.wait(10)

    def is_seen():
        monkeypatch.setattr(standing, "_last", (float("-inf"), {}))
        return "in stand_in_the_program" in standing.now()[thread.ident]

    eventually(is_seen)
    assert "test_standing.py" in standing.now()[threading.get_ident()]
    go.set()
    thread.join()


def test_a_storm_of_time_outs_looks_rarely(monkeypatch, clock):
    looks = []
    monkeypatch.setattr(standing, "dumped", lambda: looks.append(clock.leap(0.5)) or DUMP)
    for _ in range(10):
        assert standing.now()[10] == "/app/orders.py:12 in take"
    assert len(looks) == 1
    clock.leap(10 * 0.5 + 0.1)
    standing.now()
    assert len(looks) == 2


def test_now_never_raises(monkeypatch):
    def no_descriptor():
        raise OSError("too many open files")

    monkeypatch.setattr(standing, "dumped", no_descriptor)
    assert standing.now() == {}
