"""The demo and its command line: what they print, what they check, how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from servers import import_or_skip

from dbpool import cli
from dbpool.demo import bank
from dbpool.demo.work import Teller

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    "money at the end / at the start",
    "transfers in the log / committed",
    "connections not back in the pool",
    "threads that failed",
)


def start(*arguments, **options):
    """Start ``python -m dbpool`` with *arguments* in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != cli.DEMO_DSN}
    environment.update(options.pop("env", {}))
    command = [sys.executable, "-m", "dbpool", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **options)


def run(*arguments, **options):
    """Run it to its end; return its status, what it printed, and what it complained of."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def numbers(row, out):
    """Return the numbers in the row of the table that begins with *row*."""
    line = next(line for line in out.splitlines() if line.strip().startswith(row))
    return [int(number) for number in re.findall(r"\d+", line.replace(row, ""))]


def assert_all_passed(out):
    assert re.findall(r"^  (ok|FAILED) +(.*?)  ", out, re.MULTILINE) == [("ok", name) for name in CHECKS]


@pytest.fixture
def psycopg2():
    return import_or_skip("psycopg2")


@pytest.fixture
def no_dsn(monkeypatch):
    """For what runs in this process: the accounts are in a sqlite3 file."""
    monkeypatch.delenv(cli.DEMO_DSN, raising=False)


def schemas_left(psycopg2, dsn):
    with closing(psycopg2.connect(dsn)) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'dbpool_demo%'")
        return cursor.fetchall()


def test_money_is_moved_on_sqlite_and_none_is_lost(tmp_path):
    status, out, err = run("demo", "--seconds", "1", env={"TMPDIR": str(tmp_path)})
    assert (status, err) == (0, "")
    assert_all_passed(out)
    assert out.startswith("8 threads share 3 connections: sqlite3")
    assert numbers("connections opened", out) == [3, 3]
    assert numbers("turns per thread, min / max", out)[0] > 0
    assert numbers("commits", out)[0] > numbers("rollbacks", out)[0] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_work_ends_after_so_many_transfers(no_dsn, capsys):
    assert cli.main(["demo", "--threads", "1", "--transfers", "60"]) == 0
    out = capsys.readouterr().out
    assert numbers("leases", out) == [60]
    assert numbers("commits", out)[0] + numbers("rollbacks", out)[0] == 60
    assert all(numbers("rollbacks", out)), "some failed for each reason"


def test_money_is_moved_on_postgres_and_the_schema_is_dropped(server, psycopg2):
    status, out, err = run("demo", "--seconds", "1", env={cli.DEMO_DSN: server.dsn})
    assert (status, err) == (0, "")
    assert_all_passed(out)
    assert "PostgreSQL" in out
    assert server.dsn not in out
    assert schemas_left(psycopg2, server.dsn) == []


def interrupted(*arguments, **options):
    """Run it, and press Ctrl-C when it shows the first progress."""
    with start(*arguments, **options) as process:
        next(line for line in process.stdout if "committed" in line)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out


def test_ctrl_c_ends_it_cleanly_on_sqlite(tmp_path):
    status, out = interrupted("demo", "--seconds", "60", env={"TMPDIR": str(tmp_path)})
    assert status == 130
    assert "Stopped by Ctrl-C" in out
    assert_all_passed(out)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_cleanly_on_postgres(server, psycopg2):
    status, out = interrupted("demo", "--seconds", "60", "--dsn", server.dsn)
    assert status == 130
    assert_all_passed(out)
    assert schemas_left(psycopg2, server.dsn) == []


def test_a_reader_who_leaves_ends_it_without_a_traceback():
    with start("demo", "--seconds", "60") as process:
        process.stdout.readline()
        process.stdout.close()
        process.wait(timeout=60)
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_terminal_gets_a_live_bar_and_a_table():
    pty = import_or_skip("pty")
    import_or_skip("rich")
    ours, theirs = pty.openpty()
    with start("demo", "--seconds", "1", stdout=theirs, env={"TERM": "xterm", "COLUMNS": "100"}) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
    os.close(ours)
    assert process.returncode == 0
    assert shown.count("\r") > 5, "the bar is drawn again and again"
    assert "100%" in shown
    assert "turns per thread, min / max" in shown
    assert "FAILED" not in shown


def read_terminal(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that nobody has the other end any more
        return b""


def test_lost_money_fails_the_check(no_dsn, monkeypatch, capsys):
    credit = bank.Bank.credit

    def short_change(self, conn, order):
        credit(self, conn, order._replace(amount=order.amount - 1))

    monkeypatch.setattr(bank.Bank, "credit", short_change)
    assert cli.main(["demo", "--threads", "1", "--transfers", "60"]) == 1
    assert re.search(r"FAILED +money at the end", capsys.readouterr().out)


def test_a_transfer_that_is_not_rolled_back_fails_the_check(no_dsn, monkeypatch, capsys):
    debit = bank.Bank.debit

    def hasty(self, conn, order):
        debit(self, conn, order)
        conn.commit()  # before the credit, which may fail

    monkeypatch.setattr(bank.Bank, "debit", hasty)
    assert cli.main(["demo", "--threads", "1", "--transfers", "60"]) == 1
    assert re.search(r"FAILED +money at the end", capsys.readouterr().out)


def test_a_thread_that_fails_ends_the_work(no_dsn, monkeypatch, capsys):
    def fail(self, conn, order):
        raise RuntimeError("the fault")

    monkeypatch.setattr(bank.Bank, "credit", fail)
    assert cli.main(["demo", "--seconds", "60"]) == 1
    out, err = capsys.readouterr()
    assert "dbpool demo: RuntimeError: the fault" in err
    assert re.search(r"FAILED +threads that failed", out)


def test_a_locked_database_is_met_with_patience_and_then_left(monkeypatch):
    monkeypatch.setattr(bank, "LOCK_SECONDS", 0.0)
    accounts = bank.SqliteBank()
    with accounts.opened(), accounts.new_pool(1) as pool, closing(accounts.connect()) as stranger:
        teller = Teller(pool, accounts, 0)
        stranger.execute("BEGIN IMMEDIATE")
        for _ in range(3):  # all three ways
            teller.take_turn()
        stranger.rollback()
        assert teller.tally.busy == 3
        teller.take_turn()
        assert (teller.tally.busy, teller.tally.turns, pool.stats().used) == (3, 4, 0)


def refused(capsys, *arguments):
    """Run it in this process; return what it complains of. The status must be 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--connections", "--transfers"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "²", "10000000000"])
def test_a_bad_number_is_refused(capsys, option, value):
    err = refused(capsys, "demo", f"{option}={value}")
    assert f"argument {option}: must be a whole number from 1 to" in err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "601", "soon", ""])
def test_a_bad_time_is_refused(capsys, value):
    err = refused(capsys, "demo", f"--seconds={value}")
    assert "argument --seconds: must be above 0 and up to 600 seconds" in err


def test_an_unknown_command_is_refused_and_the_known_are_named(capsys):
    known = r"'?demo'?, '?monitor'?, '?top'?, '?run'?, '?check'?"
    assert re.search(rf"invalid choice: 'dome' \(choose from {known}\)", refused(capsys, "dome"))
    assert "COMMAND" in refused(capsys)


@pytest.mark.parametrize("option", ["--second=1", "--nix", "nix"])
def test_an_unknown_argument_is_refused(capsys, option):
    assert f"unrecognized arguments: {option}" in refused(capsys, "demo", option)


@pytest.mark.parametrize("dsn", ["postgresql://me:hunter2@host/shop", "host=here password=hunter2"])
@pytest.mark.parametrize("before", [(), ("demo",), ("demo", "--dns")])
def test_a_dsn_in_a_wrong_place_is_not_shown(capsys, before, dsn):
    err = refused(capsys, *before, dsn)
    assert "hunter2" not in err
    assert "a DSN belongs after --dsn" in err


@pytest.mark.parametrize("dsn", ["me:hunter2", "postgresql://me:hunt@er2@127.0.0.1:1/shop"])
def test_a_malformed_dsn_is_not_shown(psycopg2, dsn):
    status, out, err = run("demo", "--dsn", dsn)
    assert status == 1
    assert "er2" not in out + err
    assert "the DSN looks malformed" in err


def test_a_refused_connection_says_why_without_the_password(psycopg2):
    status, out, err = run("demo", "--dsn", "host=127.0.0.1 port=1 password=hunter2")
    assert status == 1
    assert "refused" in err
    assert "hunter2" not in out + err


def test_a_missing_driver_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert "a DSN needs psycopg2, which is not installed" in refused(capsys, "demo", "--dsn", "dbname=shop")


def test_help_is_short_and_names_the_commands():
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert "demo" in out
    assert len(out.splitlines()) < 15
