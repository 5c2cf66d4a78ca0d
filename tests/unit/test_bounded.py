"""Deadlines for calls that may hang: what they end, what they let pass, and what they leave behind."""

from __future__ import annotations

import os
import threading
import time
import warnings

import pytest

from dbpool import Connector, bounded
from dbpool import housekeeper as module
from dbpool.bounded import Bounds, Overdue, cut, duplicated

from .sockets import LineConnector, descriptors
from .starting import Starter
from .threads import Caller, eventually

LONG = 60.0


class Mute:
    """A connection that has no descriptor."""


@pytest.fixture
def connector():
    yield from LineConnector().ended()


@pytest.fixture
def line(connector):
    return connector.connect()


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(bounded, "start_new_thread", Starter())


# ---- with a descriptor -------------------------------------------------------------------------------------


def test_a_call_that_ends_in_time_returns_what_it_does(connector, line):
    line.peer.send(b"!")
    assert Bounds(LONG, True).run(connector, line, lambda a, b: (line.ask(), a + b)[1], 2, 3) == 5
    line.peer.send(b"!")
    line.ask()  # it is as open as before


def test_a_call_that_hangs_is_ended_at_its_deadline(connector, line):
    began = time.monotonic()
    with pytest.raises(Overdue, match=r"no answer within 0\.05 s") as caught:
        Bounds(0.05, True).run(connector, line, line.ask)
    assert time.monotonic() - began >= 0.05
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, ConnectionError), "what the driver said is lost"
    assert line.peer.recv(1) == b"", "it was not shut down"


def test_the_shorter_of_the_two_limits_counts(connector):
    for configured, given in ((LONG, 0.01), (0.01, LONG), (0.01, None)):
        line = connector.connect()
        with pytest.raises(Overdue, match=r"within 0\.01 s"):
            Bounds(configured, True).run(connector, line, line.ask, seconds=given)


def test_no_time_at_all_is_a_deadline_too(connector, line):
    with pytest.raises(Overdue, match="within 0 s"):
        Bounds(LONG, True).run(connector, line, line.ask, seconds=-1.0)


def test_a_call_that_returns_too_late_is_overdue_all_the_same(connector, line):
    """Its connection has been shut down."""

    def finish_late():
        try:
            line.ask()
        except ConnectionError:
            return "fine"

    with pytest.raises(Overdue):
        Bounds(0.01, True).run(connector, line, finish_late)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_pass_through(connector, line, error):
    def fail():
        raise error("its own")

    with pytest.raises(error, match="its own"):
        Bounds(LONG, True).run(connector, line, fail)
    line.peer.send(b"!")
    line.ask()


def test_no_descriptor_is_left_over(connector):
    def fail():
        raise ZeroDivisionError

    lines = [connector.connect() for _ in range(20)]
    before = descriptors()
    for line in lines[:5]:
        line.peer.send(b"!")
        Bounds(LONG, True).run(connector, line, line.ask)
    for line in lines[5:10]:
        with pytest.raises(ZeroDivisionError):
            Bounds(LONG, True).run(connector, line, fail)
    for line in lines[10:15]:
        with pytest.raises(Overdue):
            Bounds(0.005, True).run(connector, line, line.ask)
    for line in lines[15:]:
        cut(line.fileno())
    eventually(lambda: descriptors() <= before)


def test_a_stranger_who_gets_the_number_of_a_connection_is_not_shut_down(connector):
    """Libpq closes its descriptor at an error, and the next open() gets the number, while the deadline still runs."""
    line = connector.connect()

    def lose_and_hang():
        number = line.fileno()
        line.close()
        stranger = connector.connect()
        if stranger.fileno() != number and stranger.peer.fileno() != number:
            pytest.skip("the number was not given away again")
        time.sleep(0.1)
        stranger.peer.send(b"!")
        stranger.ask()

    with pytest.raises(Overdue):
        Bounds(0.02, True).run(connector, line, lose_and_hang)


def test_where_no_thread_can_be_had_the_call_runs_without_a_deadline(connector, line, monkeypatch):
    keeper = module.Housekeeper()
    monkeypatch.setattr(bounded, "housekeeper", keeper)
    monkeypatch.setattr(module, "start_new_thread", Starter(refuses=True))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert Bounds(0.001, True).run(connector, line, lambda: 5) == 5
    keeper._watch.close()
    assert not told


# ---- without one -------------------------------------------------------------------------------------------


def test_a_call_that_hangs_without_a_descriptor_is_left_behind(traced):
    go, ended = threading.Event(), threading.Event()
    with pytest.raises(Overdue, match=r"within 0\.01 s"):
        Bounds(0.01, True).run(Connector(), Mute(), lambda: (go.wait(10), ended.set()))
    assert not ended.is_set()
    go.set()
    assert ended.wait(10)


def test_what_is_run_in_a_thread_returns_and_raises_as_it_does(traced):
    here = threading.get_ident()
    assert Bounds(LONG, True).run(Connector(), Mute(), lambda n: (n, threading.get_ident()), 3)[0] == 3
    assert Bounds(LONG, True).run(Connector(), Mute(), threading.get_ident) != here
    with pytest.raises(KeyError, match="its own"):
        Bounds(LONG, True).run(Connector(), Mute(), {}.__getitem__, "its own")


def test_what_never_hangs_runs_in_the_caller(traced):
    connector = Connector()
    connector.hangs = False
    assert Bounds(0.001, True).run(connector, Mute(), threading.get_ident) == threading.get_ident()


def test_where_no_thread_can_be_had_it_runs_in_the_caller(monkeypatch):
    monkeypatch.setattr(bounded, "start_new_thread", Starter(refuses=True))
    assert Bounds(0.001, True).run(Connector(), Mute(), threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize(("seconds", "threads"), [(None, True), (0.001, False)], ids=["no limit", "no threads"])
def test_without_a_limit_or_without_threads_there_is_no_deadline(connector, line, seconds, threads):
    caller = Caller(Bounds(seconds, threads).run, connector, line, line.ask)
    other = connector.connect()
    with pytest.raises(Overdue):  # so long that the other would have been ended
        Bounds(0.05, True).run(connector, other, other.ask)
    assert not caller.ended
    line.peer.send(b"!")
    assert caller.result() is None


def test_the_callers_own_limit_holds_where_none_is_configured(connector, line):
    with pytest.raises(Overdue):
        Bounds(None, True).run(connector, line, line.ask, seconds=0.01)


# ---- duplicates --------------------------------------------------------------------------------------------


def test_what_is_no_socket_has_no_duplicate():
    assert duplicated(10**6) == []
    assert cut(None) is None


def test_looking_whether_it_is_a_socket_leaves_nothing_over():
    ends = os.pipe()
    before = descriptors()
    try:
        for _ in range(3):
            assert duplicated(ends[0]) == []
        found = descriptors()
    finally:
        for number in range(max(ends) + 1, max(ends) + 4):
            if os.path.exists(f"/proc/self/fd/{number}") and os.path.sameopenfile(number, ends[0]):
                os.close(number)
        for end in ends:
            os.close(end)
    assert found == before


def test_a_connection_that_another_thread_uses_is_cut_off(line):
    caller = Caller(line.ask)
    cut(line.fileno())
    with pytest.raises(ConnectionError):
        caller.result()
    cut(line.fileno())  # nothing more to end
