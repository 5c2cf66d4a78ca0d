"""``top --once``: what it prints, and the exit status that scripts go by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from servers import import_or_skip
from test_samples import ROOT
from unit.threads import eventually

from dbpool import ThreadedConnectionPool, cli
from dbpool.monitor import pool_monitor
from dbpool.top.client import TOKEN
from top.stage import a_pool, a_state

SECRET = "sesame-sesame-sesame"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)


def run(*arguments, env=None, **options):
    """Run ``top`` in a process of its own; return its status, what it printed, and what it complained of."""
    command = [sys.executable, "-m", "dbpool", "top", *arguments]
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        (["healthy", "closed"], 0),
        ([], 0),
        (["healthy", "exhausted"], 1),
        (["database_refuses"], 1),
        (["nobody knows this one"], 1),
    ],
)
def test_the_status_says_whether_all_pools_are_well(stage, capsys, codes, status):
    stage.body = a_state(*(a_pool(code, number, code) for number, code in enumerate(codes)))
    assert cli.main(["top", stage.url, "--once"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{code}: {code}: as the test says" for code in codes] or lines == ["no pool is open"]


def test_a_process_that_does_not_answer_is_trouble(stage, capsys):
    processes = [{"pid": 7, "uptime": 1.0, "stale": False}, {"pid": 8, "uptime": None, "stale": True}]
    stage.body = a_state(a_pool(), processes=processes)
    assert cli.main(["top", stage.url, "--once"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "7 orders: healthy: as the test says",
        "process 8 does not answer",
    ]


def test_as_json_it_is_what_the_monitor_said(stage, capsys):
    stage.body = a_state(a_pool(), a_pool("\x1b[31mred", 2, "exhausted"))
    assert cli.main(["top", stage.url, "--once", "--json"]) == 1
    out = capsys.readouterr().out
    found = json.loads(out)
    assert [pool["verdict"]["code"] for pool in found["pools"]] == ["healthy", "exhausted"]
    assert found["pools"][0]["stats"] == stage.body["pools"][0]["stats"]
    assert all(line.isprintable() for line in out.splitlines())


@pytest.mark.fault(70)
def test_what_a_hostile_pool_is_called_begins_no_line_and_moves_no_cursor(stage, capsys):
    hostile = "a\nb: healthy\x1b[2J\u202e"
    stage.body = a_state(a_pool(hostile, endpoint=hostile, verdict={"code": hostile, "text": hostile}))
    assert cli.main(["top", stage.url, "--once"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()


def test_who_cannot_be_asked_gives_status_2_and_says_why(stage, capsys):
    stage.status = 500
    assert cli.main(["top", stage.url, "--once", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["reachable"] is False
    assert said.err.startswith("dbpool top: http://127.0.0.1")


@pytest.mark.parametrize("arguments", [["http://user:x@host/", "--once"], ["--json"], ["--onc"], ["a", "b"]])
def test_wrong_arguments_give_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["top", *arguments])
    assert ended.value.code == 2
    assert "user:x" not in capsys.readouterr().err


def test_the_token_is_read_from_the_environment(stage, monkeypatch):
    monkeypatch.setenv(TOKEN, SECRET)
    assert cli.main(["top", stage.url, "--once"]) == 0
    assert stage.asked[0][1]["Authorization"] == f"Bearer {SECRET}"


def test_without_a_terminal_nobody_is_asked_for_a_token(stage):
    stage.status = 401
    status, out, err = run(stage.url, "--once")
    assert (status, out) == (2, "")
    assert TOKEN in err


def test_on_a_terminal_the_token_is_asked_for_and_not_shown(stage):
    pty = import_or_skip("pty")
    ours, theirs = pty.openpty()
    stage.status = 401
    command = [sys.executable, "-m", "dbpool", "top", stage.url, "--once"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = read_until(ours, b": ")
    assert TOKEN.encode() in shown
    stage.status = 200
    os.write(ours, SECRET.encode() + b"\n")
    shown += read_until(ours, b"as the test says")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert SECRET.encode() not in shown
    assert stage.asked[-1][1]["Authorization"] == f"Bearer {SECRET}"


def test_on_a_terminal_it_draws_until_somebody_presses_q(stage):
    pty = import_or_skip("pty")
    import_or_skip("textual")
    ours, theirs = pty.openpty()
    stage.begin(a_pool())
    command = [sys.executable, "-m", "dbpool", "top", stage.url, "--language", "zh"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    )
    os.close(theirs)
    read_until(ours, "正常".encode())
    os.write(ours, b"q")
    rest = read_to_the_end(ours)
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"Traceback" not in rest
    assert b"?1049l" in rest, "the screen is given back"


def read_to_the_end(descriptor):
    """Read from a terminal until nobody has it open any more."""
    shown = b""
    with suppress(OSError):
        while part := os.read(descriptor, 10_000):
            shown += part
    return shown


def read_until(descriptor, text):
    """Read from a terminal until it shows *text*."""
    shown = b""
    while text not in shown:
        try:
            shown += os.read(descriptor, 10_000)
        except OSError:  # nobody has it open any more
            break
    assert text in shown, shown
    return shown


def test_it_takes_no_textual_and_no_rich(stage):
    program = (
        "import sys; sys.modules.update({'textual': None, 'rich': None}); from dbpool import cli; "
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "top", stage.url]
    done = subprocess.run([*command, "--once"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "pip install '.[top]'" in done.stderr


def test_a_real_pool_that_is_exhausted_is_told_of_by_its_real_monitor(tmp_path, capsys):
    import sqlite3

    config = {"name": "shop", "timeout": 0}
    with ThreadedConnectionPool(1, 2, tmp_path / "shop.db", connect=sqlite3, config=config) as pool:
        with pool_monitor(0, pools=[pool]) as monitor:
            assert cli.main(["top", monitor.url, "--once"]) == 0
            assert capsys.readouterr().out.startswith("shop: healthy: ")
            held = [pool.getconn(), pool.getconn()]
            with pytest.raises(sqlite3.Error):
                pool.getconn()
            eventually(lambda: cli.main(["top", monitor.url, "--once"]) == 1)
            assert "shop: exhausted: all 2 connections are in use" in capsys.readouterr().out
            for conn in held:
                pool.putconn(conn)
