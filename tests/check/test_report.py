"""What a check says, from values: rows, sizes, code; on a terminal and elsewhere; and its command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from servers import import_or_skip
from test_samples import ROOT
from unit.test_advice import CASES

from dbpool import PoolConfig, cli
from dbpool.advice import Deployment, Facts
from dbpool.check import screen
from dbpool.check.found import Found, timed
from dbpool.check.postgres import seconds_in
from dbpool.check.report import report, rows, sizes
from dbpool.check.session import explained

FACTS = Facts(driver="psycopg2", max_connections=100, reserved=3, used=7, others=2, pooling="direct", read_only=False)


def found(**changes):
    values = {
        "server": "PostgreSQL 15.1", "driver": "psycopg2 2.9", "twin": None, "connects": [0.004, 0.002, 0.003],
        "trips": [0.0001, 0.0003, 0.0002], "facts": FACTS, "pooler": None, "settings": {"statement_timeout": 0.0},
        "more": {"role": "primary"},
    }  # fmt: skip
    return Found(**{**values, **changes})


def reported(around=None, config=None, given=None, **changes):
    return report(found(**changes), config or PoolConfig(), around or Deployment(), given)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("30s", 30), ("5min", 300), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), ("7200", 7200),
        ("None", None), ("5 weeks", None), ("-1", None), ("on", None),
    ],
)  # fmt: skip
def test_the_text_of_a_setting_is_seconds(text, seconds):
    assert seconds_in(text) == seconds


def test_the_measurements_are_the_worst_connect_and_the_usual_round_trip():
    facts = timed(FACTS, [0.1, 0.3, 0.2], [1.0, 5.0, 2.0])
    assert (facts.connecting, facts.round_trip) == (0.3, 2.0)


def test_what_was_found_passes_through_json():
    assert Found.from_json(json.loads(json.dumps(found().as_json()))) == found()


def test_the_rows_are_for_people():
    told = dict(rows(found()))
    assert told["connect"] == "3.00 ms (median of 3), 4.00 ms at worst"
    assert told["connections"] == "7 in use, 2 by other users; max_connections 100, 3 of them reserved"
    assert told["statement_timeout"] == "not set"
    assert told["takes writes"] == "yes"


def test_what_is_not_known_is_said_to_be():
    told = dict(rows(found(facts=Facts(max_connections=100), settings={"wait_timeout": 60.0})))
    assert told["connections"].startswith("not known how many in use; max_connections 100")
    assert told["takes writes"] == "not known"
    assert told["pooler"].startswith("not known")
    assert told["wait_timeout"] == "60 s"
    assert dict(rows(found(facts=Facts())))["connections"] == "not known"


def test_the_sizes_have_a_row_for_the_workers_that_were_asked_for():
    assert sizes(found(), Deployment(3)) == [(1, 43), (2, 21), (3, 14), (4, 10), (8, 5), (16, 2), (32, 1)]
    assert sizes(found(facts=Facts()), Deployment(3)) == []


def test_the_code_shows_the_principal_options_and_those_that_were_changed():
    code = reported(config=PoolConfig(name="mine", trace=True, timeout=3)).code()
    namespace = {}
    exec(code.replace("import psycopg2", "psycopg2 = None"), namespace)
    assert namespace["config"] == PoolConfig(name="mine", trace=True, timeout=3, connect_timeout=3)
    for option in ("timeout", "connect_timeout", "idle_timeout", "max_lifetime"):
        assert f"    {option}=" in code


def test_warnings_are_not_well_and_notes_are():
    assert reported().is_well()
    assert reported(config=PoolConfig(ping_after=0)).is_well()
    assert not reported(config=PoolConfig(reset="none")).is_well()


def test_given_sizes_are_judged_as_they_are():
    config = PoolConfig(timeout=60)
    around = Deployment(1, None, 30)
    assert [finding.code for finding in reported(around, config, (1, 5)).findings] == ["timeout-above-web-timeout"]
    assert reported(around, config).findings == [], "what is suggested is better"


def test_an_error_is_one_line():
    assert explained(ValueError("one\n\ttwo\n")) == "ValueError: one two"


# ---- the screen ----------------------------------------------------------------------------------------------------


def test_what_a_server_says_does_not_reach_the_terminal_raw(capsys):
    screen.show(reported(server="Evil \x1b]0;title\x07 [red]SQL"))
    out = capsys.readouterr().out
    assert "Evil ?]0;title? [red]SQL" in out
    assert "\x1b" not in out


SHOW = """
import sys
sys.path[:0] = ["tests"]
from check.test_report import reported
from dbpool import PoolConfig
from dbpool.check.screen import show
show(reported(config=PoolConfig(reset="none"), server="[red]SQL"))
"""


def shown_on_a_terminal(**environment):
    """Return what a terminal is sent."""
    pty = import_or_skip("pty")
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment}
    with subprocess.Popen([sys.executable, "-c", SHOW], stdout=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way to say that nobody has the other end any more
                break
            shown += part
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_gets_tables():
    import_or_skip("rich")
    shown = shown_on_a_terminal()
    assert "│ server" in shown
    assert "[red]SQL" in shown, "no markup"
    assert "warning" in shown
    code = reported(config=PoolConfig(reset="none")).code()
    assert shown.replace("\r\n", "\n").endswith(code), "the code has no lines around it"


def test_without_rich_it_is_plain(monkeypatch, capsys):
    monkeypatch.setattr(screen, "find_spec", lambda name: None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    screen.show(reported())
    assert "│" not in capsys.readouterr().out


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give a DSN, or set DBPOOL_CHECK_DSN"),
        (("",), "give a DSN, or set DBPOOL_CHECK_DSN"),
        (("host=a", "--workers=0"), "argument --workers: must be a whole number from 1"),
        (("host=a", "--minconn=-1", "--maxconn=1"), "argument --minconn: must be a whole number from 0"),
        (("host=a", "--minconn=3", "--maxconn=2"), "minconn must not be above maxconn: 3 > 2"),
        (("host=a", "--timeout=0"), "argument --timeout: must be above 0"),
        (("host=a", "--web-timeout=soon"), "argument --web-timeout: must be above 0"),
        (("host=a", "--nix"), "unrecognized arguments: --nix"),
        (("host=a", "password=hunter2"), "check takes one, within quotes"),
        (("host=a", "postgresql://me:hunter2@b"), "check takes one, within quotes"),
        (("host=a", "passwd=hunter2"), "check takes one, within quotes"),
    ],
)
def test_bad_arguments_are_refused(check, arguments, complaint):
    said = check(*arguments)
    assert (said.status, said.out) == (2, "")
    assert complaint in said.err
    assert "hunter2" not in said.err


@pytest.mark.parametrize("json_too", [False, True])
def test_a_bad_dsn_is_refused(check, json_too):
    said = check("hunter2", *(["--json"] if json_too else []))
    assert said.status == 2
    assert said.err.startswith("dbpool check: a DSN is host=... dbname=...")
    assert "hunter2" not in said.out + said.err
    assert (said.json["reachable"] is False) if json_too else said.out == ""


def test_help_names_the_statuses(check):
    said = check("--help")
    assert said.status == 0
    for part in ("0: well", "1: there are warnings", "2: the server", cli.CHECK_DSN, "--web-timeout"):
        assert part in " ".join(said.out.split())


# ---- the document --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_document_lists_the_findings(language):
    text = (ROOT / "docs" / language / "check.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"(?m)^\| `([\w-]+)` \| ((?:error|warning|note)[^|]*) \|", text))
    assert set(listed) == set(CASES)
    assert [code for code in CASES if CASES[code][0] not in listed[code]] == []


def test_the_document_shows_what_is_printed(check, server):
    text = (ROOT / "docs/en/check.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"(?ms)^```text\n(.*?)^```$", text)
    import_or_skip("psycopg2")
    said = check(server.dsn, "--driver", "psycopg2", "--workers", 8)
    names = re.findall(r"(?m)^  ([a-z_ ]+?)  ", sample)
    assert names[:10] == re.findall(r"(?m)^  ([a-z_ ]+?)  ", said.out)[:10]
    options = re.findall(r"(?m)^    (\w+)=", said.out)
    assert set(options) <= set(re.findall(r"(?m)^    (\w+)=", sample))
    assert "def new_pool(dsn):" in said.out
