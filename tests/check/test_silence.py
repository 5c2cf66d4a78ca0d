"""A check of what cannot be reached: a clear word, no password, status 2, and in time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from clusters import new_cluster
from faultproxy import FaultProxy
from servers import import_or_skip

from check.mute import mute_server

SECRET = "hunter2"


def changed(cluster, **words):
    """Return the cluster's DSN for TCP with some of its words changed."""
    said = dict(word.split("=", 1) for word in cluster.tcp_dsn.split())
    return {**said, **words}


CASES = {
    "wrong password": ({"password": SECRET}, "password authentication failed"),
    "unknown database": ({"dbname": "nowhere"}, "does not exist"),
    "unknown host": ({"host": "no-such-host.invalid"}, "could not translate|resolve"),
    "refused port": ({"port": "1"}, "refused"),
}


@pytest.fixture(scope="module")
def town(installation):
    """A server that listens on TCP and asks for a password."""
    with new_cluster(installation, max_connections="40") as town:
        yield town.start()


@pytest.mark.parametrize("form", ["words", "uri"])
@pytest.mark.parametrize("case", CASES)
def test_who_cannot_get_in_is_told_why_without_the_password(check, town, driver, case, form):
    words, text = CASES[case]
    said = changed(town, **words)
    dsn = " ".join(f"{name}={value}" for name, value in said.items())
    if form == "uri":
        dsn = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**said)
    ended = check(dsn, "--driver", driver)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("dbpool check: OperationalError: ")
    assert ended.err.count("\n") == 1
    assert any(part in ended.err for part in text.split("|"))
    assert said["password"] not in ended.err


def test_json_says_so_too(check, town):
    ended = check("host=127.0.0.1 port=1 password=hunter2", "--json")
    assert ended.status == 2
    assert ended.json["reachable"] is False
    assert "refused" in ended.json["error"]
    assert SECRET not in ended.out + ended.err


def bounded(check, seconds, *arguments):
    """Return how a check ended that nobody answers; it must be in time."""
    began = time.monotonic()
    ended = check(*arguments, "--timeout", 0.5)
    assert time.monotonic() - began < seconds
    assert (ended.status, ended.out) == (2, "")
    return ended.err


def test_a_silent_server_costs_the_time_for_one_connect(check, driver):
    with FaultProxy(("127.0.0.1", 1)) as proxy:
        proxy.silent = True
        dsn = f"host=127.0.0.1 port={proxy.port} user=me password=hunter2 dbname=shop"
        err = bounded(check, 8, dsn, "--driver", driver)
    assert "nothing was heard within 0.5 s" in err
    assert SECRET not in err


def test_as_a_process_it_says_one_line_and_ends_in_time(driver):
    command = [sys.executable, "-m", "dbpool", "check", "--driver", driver, "--timeout", "0.5"]
    with FaultProxy(("127.0.0.1", 1)) as proxy:
        proxy.silent = True
        dsn = f"host=127.0.0.1 port={proxy.port} user=me password=hunter2 dbname=shop"
        began = time.monotonic()
        done = subprocess.run([*command, dsn], capture_output=True, text=True, check=False, timeout=60)
    assert time.monotonic() - began < 10
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "dbpool check: nothing was heard within 0.5 s\n")


@pytest.mark.parametrize(
    ("driver", "answers", "complaint"),
    [
        ("psycopg2", 0, "it let us in, and then did not answer within 0.5 s"),
        ("psycopg", 0, "it let us in, and then did not answer within 0.5 s"),
        ("ksycopg2", 0, "nothing was heard within 0.5 s"),
        ("ksycopg2", 1, "ksycopg2 hung in its connect; it was ended after 7 s"),  # it lets no other thread run then
    ],
)
def test_a_server_that_falls_silent_once_it_has_let_us_in(check, driver, answers, complaint):
    import_or_skip(driver)
    with mute_server(answers) as port:
        dsn = f"host=127.0.0.1 port={port} user=me password=hunter2 dbname=shop"
        err = bounded(check, 12, dsn, "--driver", driver)
    assert complaint in err
    assert SECRET not in err


def test_a_slow_server_is_given_up_after_some_time(check, town):
    with FaultProxy(("127.0.0.1", town.port)) as proxy:
        proxy.delay = 0.06
        dsn = " ".join(f"{name}={value}" for name, value in changed(town, port=str(proxy.port)).items())
        began = time.monotonic()
        ended = check(dsn, "--driver", "psycopg2", "--timeout", 1)
        assert time.monotonic() - began < 8
    assert ended.status == 2
    assert "it is too slow: not all that is asked was answered in 4 s" in ended.err


def test_a_line_with_some_delay_is_no_obstacle(check, town):
    with FaultProxy(("127.0.0.1", town.port)) as proxy:
        proxy.delay = 0.02
        dsn = " ".join(f"{name}={value}" for name, value in changed(town, port=str(proxy.port)).items())
        ended = check(dsn, "--json")
    assert ended.status == 0
    assert ended.facts["round_trip"] > 0.04, "there and back"


def test_a_server_without_a_place_left_says_so(check, installation):
    with new_cluster(installation, max_connections="2", superuser_reserved_connections="0") as tiny:
        import psycopg2

        tiny.start()
        conns = [psycopg2.connect(tiny.dsn) for _ in range(2)]
        ended = check(tiny.tcp_dsn)
        for conn in conns:
            conn.close()
    assert ended.status == 2
    assert "too many clients already" in ended.err
