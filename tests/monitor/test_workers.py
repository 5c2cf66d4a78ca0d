"""Processes that share a folder of Unix sockets: who answers, who is told of as stale, and whom nobody listens to."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from contextlib import closing

import pytest
from unit.threads import PATIENCE, Caller, eventually

from dbpool.monitor import neighbours
from dbpool.monitor.workers import Workers, merged

from .neighbour import Neighbour

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
ME = os.getpid()


def document(pid=ME, name="orders", history=True):
    own = f"{pid}-1"
    state = {"process": {"pid": pid, "uptime": 2.0}, "pools": [{"id": own, "pid": pid, "name": name}], "now": pid}
    found = {"state": state, "rows": {own: {"t": 1.0}}}
    return {**found, "history": {own: {"t": [1.0]}}} if history else found


@pytest.fixture
def folder(tmp_path):
    """A folder whose path is short enough for sockets."""
    return tmp_path / "w"


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """On a busy machine an answer may take a while."""
    monkeypatch.setattr(neighbours, "PATIENCE", PATIENCE)


@pytest.fixture
def workers(folder):
    """This process, among its neighbours."""
    made = Workers(folder, lambda history: document(history=history))
    made.start()
    yield made
    made.close()
    eventually(lambda: not [each for each in threading.enumerate() if each.name == "dbpool-workers"])


@pytest.fixture
def neighbour(folder):
    """Makes other processes."""
    made = []

    def begin(name="orders", rows=3):
        made.append(Neighbour(folder, name, rows))
        return made[-1]

    yield begin
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout):
            pipe.close()


def pids(found):
    """Return who answered."""
    return [each["state"]["process"]["pid"] for each in found if not each.get("stale")]


def sockets(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- the folder ---------------------------------------------------------------------------------------------------


def test_the_folder_and_the_sockets_are_the_owners_alone(workers, folder):
    before = os.umask(0)
    os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (found,) = folder.iterdir()
    assert stat.S_ISSOCK(found.stat().st_mode)
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert found.name.startswith(f"{ME}-")


def test_a_folder_that_others_could_write_to_is_refused(folder):
    for mode in (0o755, 0o770, 0o701, 0o777):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        with pytest.raises(ValueError, match=r"workers: .* chmod 700"):
            Workers(folder, document)


def test_a_folder_that_is_opened_to_others_later_is_not_believed_any_more(workers, folder, neighbour):
    neighbour()
    assert len(workers.others()) == 1
    folder.chmod(0o777)
    assert workers.others() == []
    folder.chmod(0o700)
    assert len(workers.others()) == 1


def test_a_link_or_a_file_is_no_folder(folder, tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    with pytest.raises(ValueError, match="is not a folder"):
        Workers(folder, document)
    folder.unlink()
    folder.write_text("")
    with pytest.raises(ValueError, match="is not a folder"):
        Workers(folder, document)


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ValueError, match="belongs to user"):
        Workers(folder, document)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"workers: .*nowhere"):
        Workers(tmp_path / "nowhere" / "w", document)
    with pytest.raises(ValueError, match="too long"):
        Workers(tmp_path / ("x" * 100), document)


def test_a_socket_is_there_only_once_somebody_listens(folder, monkeypatch):
    """Between bind and listen it would refuse a neighbour, who would take it for a dead one's."""
    seen = []

    class Slow(socket.socket):
        def listen(self, *args):
            seen.extend(sockets(folder))
            super().listen(*args)

    monkeypatch.setattr(socket, "socket", Slow)
    with closing(Workers(folder, document)) as made:
        made.start()
        assert all(name.startswith(".") and name.endswith(".new") for name in seen)
        assert len(seen) == 1
        (name,) = sockets(folder)
        assert name.endswith(".sock")


# ---- asking and answering -----------------------------------------------------------------------------------------


def test_each_tells_the_others_and_not_itself(workers, neighbour):
    first, second = neighbour("orders"), neighbour("reports")
    assert pids(workers.others()) == sorted([first.pid, second.pid])
    assert pids(first.others()) == sorted([ME, second.pid])
    assert "history" not in workers.others()[0]
    assert "history" in workers.others(history=True)[0]


def test_a_history_of_megabytes_comes_whole(workers, neighbour):
    rows = 400_000
    other = neighbour(rows=rows)
    (found,) = workers.others(history=True)
    assert len(found["history"][f"{other.pid}-1"]["t"]) == rows


def test_two_who_ask_each_other_at_the_same_time_both_get_an_answer(neighbour):
    first, second = neighbour(), neighbour()
    for _ in range(30):
        first.tell("others")
        second.tell("others")
        assert (pids(first.said()), pids(second.said())) == ([second.pid], [first.pid])


def test_the_socket_of_a_process_that_was_killed_is_removed(workers, folder, neighbour):
    other = neighbour()
    assert len(sockets(folder)) == 2
    other.process.kill()
    other.process.wait()
    assert len(sockets(folder)) == 2
    assert workers.others() == []
    assert len(sockets(folder)) == 1


def test_a_process_that_ends_removes_its_own_socket(workers, folder, neighbour):
    other = neighbour()
    assert other.end() == 0
    assert len(sockets(folder)) == 1


def test_a_process_that_stands_still_is_stale_and_its_socket_stays(workers, folder, neighbour, monkeypatch):
    monkeypatch.setattr(neighbours, "PATIENCE", 0.2)
    frozen, alive = neighbour(), neighbour()
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        eventually(lambda: pids(workers.others()) == [alive.pid])
        assert {"process": {"pid": frozen.pid, "uptime": None}, "stale": True} in workers.others()
        assert len(sockets(folder)) == 3
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    eventually(lambda: not any(each.get("stale") for each in workers.others()))


def test_a_forked_child_answers_for_itself_and_leaves_its_parents_socket_alone(workers, folder, neighbour):
    parent = neighbour()
    parent.tell("fork")
    child = parent.said()
    try:
        eventually(lambda: pids(workers.others()) == sorted([parent.pid, child]))
        assert pids(parent.others()) == sorted([ME, child])
    finally:
        os.kill(child, signal.SIGKILL)
    eventually(lambda: pids(workers.others()) == [parent.pid])
    assert pids(parent.others()) == [ME]


def an_impostor(folder, name, said):
    """Listen in *folder* by a name that may be somebody's, and say one thing."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(folder / name))
    made.listen()

    def answer():
        conn, _ = made.accept()
        with conn:
            conn.recv(100)
            conn.sendall(said)

    return made, Caller(answer)


@pytest.mark.parametrize(
    "said",
    [
        b"", b"{", b"null", b"[" * 5000, b'{"state": 3}', json.dumps(document(pid=8)).encode(),
        json.dumps({**document(pid=77), "rows": {"8-1": {}}}).encode(),
        json.dumps({**document(pid=77), "history": {"8-1": {}}}).encode(),
        json.dumps(document(pid=77)).replace('"pid": 77', '"pid": 8').encode(),
    ],
)  # fmt: skip
def test_what_is_no_document_of_that_process_is_left_out(workers, folder, said):
    made, answering = an_impostor(folder, "77-00.sock", said)
    with made:
        assert workers.others(history=True) == [{"process": {"pid": 77, "uptime": None}, "stale": True}]
        answering.result()


def test_an_answer_that_is_too_long_is_not_read_to_its_end(workers, folder, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_BYTES", 100_000)
    made, answering = an_impostor(folder, "77-00.sock", b"x" * 5_000_000)
    with made:
        assert workers.others()[0]["stale"]
        with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
            answering.result()


def test_other_files_in_the_folder_are_left_alone(workers, folder, neighbour):
    names = ["notes.txt", "x-1.sock", "9-1.txt", "-1.sock", "9"]
    for name in names:
        (folder / name).write_text("")
    other = neighbour()
    assert pids(workers.others()) == [other.pid]
    assert set(names) <= set(sockets(folder))


def test_what_a_process_left_that_died_while_it_made_its_socket_is_removed(workers, folder):
    old, new = folder / ".5-aa.new", folder / ".6-bb.new"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (1, 1))
    workers.others()
    assert not old.exists()
    assert new.exists()


def test_an_answer_that_fails_is_none_and_the_next_is_given(folder, neighbour):
    fails = [True]

    def answer(history):
        if fails:
            fails.pop()
            raise RuntimeError("not now")
        return document(history=history)

    other = neighbour()
    with closing(Workers(folder, answer)) as made:
        made.start()
        assert other.others()[0]["stale"]
        assert pids(other.others()) == [ME]


def test_closing_twice_and_starting_twice_are_once(folder):
    made = Workers(folder, document)
    made.start()
    made.start()
    assert len(sockets(folder)) == 1
    made.close()
    made.close()
    assert sockets(folder) == []


# ---- merging ------------------------------------------------------------------------------------------------------


def test_merged_are_pools_rows_histories_and_processes():
    stale = {"process": {"pid": 5, "uptime": None}, "stale": True}
    own, other = document(9, "b"), document(3, "a")
    found = merged(own, [other, stale])
    assert [pool["id"] for pool in found["state"]["pools"]] == ["3-1", "9-1"]
    assert set(found["rows"]) == set(found["history"]) == {"3-1", "9-1"}
    assert found["state"]["processes"] == [
        {"pid": 3, "uptime": 2.0, "stale": False},
        {"pid": 5, "uptime": None, "stale": True},
        {"pid": 9, "uptime": 2.0, "stale": False},
    ]
    assert found["state"]["now"] == 9


def test_whoever_merges_the_order_is_the_same():
    one, two = document(9, "b"), document(3, "a")
    first, second = merged(one, [two])["state"], merged(two, [one])["state"]
    for part in ("pools", "processes"):
        assert first[part] == second[part]


def test_without_a_history_none_is_merged():
    found = merged(document(9, history=False), [document(3)])
    assert "history" not in found


def test_processes_merge_what_they_ask_for(workers, neighbour):
    other = neighbour("reports")
    other.tell("merged")
    found = other.said()
    assert [pool["pid"] for pool in found["state"]["pools"]] == [ME, other.pid]
