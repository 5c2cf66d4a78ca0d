"""A check of a real PostgreSQL, through each driver: what it finds is what others count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, closing

import pytest
from asking import ask, tell
from clusters import new_cluster, new_standby
from servers import import_or_skip

psycopg2 = import_or_skip("psycopg2")


def uri(cluster, user="postgres", password=None, scheme="postgresql"):
    password = password or cluster.installation.password
    return f"{scheme}://{user}:{password}@127.0.0.1:{cluster.port}/postgres"


def administer(cluster, *statements):
    with closing(psycopg2.connect(cluster.dsn)) as conn:
        conn.autocommit = True
        tell(conn, *statements)


def test_all_is_well(check, dsn, driver):
    said = check(dsn, "--driver", driver, "--workers", 2)
    assert (said.status, said.err) == (0, "")
    told = dict(line.strip().split("  ", 1) for line in said.out.splitlines() if "  " in line.strip())
    told = {name: text.strip() for name, text in told.items()}
    assert told["driver"].startswith(driver)
    assert told["server"].startswith("PostgreSQL")
    assert told["pooler"] == "none: the server itself answers"
    assert "median of 5" in told["connect"]
    assert "median of 20" in told["round trip"]
    assert "maxconn up to" in told["2 workers"]
    assert "For 2 workers:" in said.out


def test_the_facts_are_those_of_the_server(check, dsn, driver):
    said = check(dsn, "--driver", driver, "--json")
    assert said.status == 0
    with closing(psycopg2.connect(dsn)) as conn:
        assert said.facts["max_connections"] == int(ask(conn, "SHOW max_connections"))
        assert said.facts["reserved"] >= int(ask(conn, "SHOW superuser_reserved_connections"))
        assert said.json["server"].startswith(f"PostgreSQL {ask(conn, 'SHOW server_version')}".split(" (")[0])
    assert (said.facts["driver"], said.facts["pooling"], said.facts["read_only"]) == (driver, "direct", False)
    assert (said.json["more"]["role"], said.json["pooler"]) == ("primary", None)
    assert (len(said.json["connects"]), len(said.json["trips"])) == (5, 20)
    assert 0 < said.facts["round_trip"] < said.facts["connecting"] == max(said.json["connects"])


@pytest.fixture(scope="module")
def small(installation):
    """A server with few connections and many limits."""
    settings = {
        "max_connections": "30", "superuser_reserved_connections": "2", "statement_timeout": "45s",
        "idle_in_transaction_session_timeout": "2min", "tcp_keepalives_idle": "100",
    }  # fmt: skip
    with new_cluster(installation, **settings) as small:
        administer(small.start(), *(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'" for name in ("guest", "other")))
        yield small


def test_connections_are_counted_for_a_user_without_rights(check, small, driver):
    with ExitStack() as stack:
        for user, number in (("guest", 3), ("other", 5), ("postgres", 2)):
            for _ in range(number):
                stack.enter_context(closing(psycopg2.connect(uri(small, user, user if user != "postgres" else None))))
        said = check(uri(small, "guest", "guest"), "--driver", driver, "--json")
    assert (said.facts["used"], said.facts["others"]) == (10, 7)
    assert (said.facts["max_connections"], said.facts["reserved"]) == (30, 2)
    assert said.json["room"] == 30 - 2 - 10


def test_what_is_reserved_for_a_role_counts(check, cluster):
    """PostgreSQL 16 has reserved_connections beside those of superusers."""
    plain = cluster(superuser_reserved_connections="4")
    with closing(psycopg2.connect(plain.dsn)) as conn:
        version = conn.server_version
    if version < 160000:
        assert check(plain.tcp_dsn, "--json").facts["reserved"] == 4
        return
    plain.stop()
    plain.settings["reserved_connections"] = "5"
    assert check(plain.start().tcp_dsn, "--json").facts["reserved"] == 9


def test_time_limits_are_read_in_seconds(check, small, driver):
    said = check(small.tcp_dsn, "--driver", driver, "--json", "--web-timeout", 30)
    assert said.json["settings"]["statement_timeout"] == said.facts["statement_limit"] == 45
    assert said.facts["idle_in_transaction_limit"] == 120
    assert said.json["settings"]["tcp_keepalives_idle"] == 100
    assert said.codes == ["statement-limit-above-web-timeout"]
    assert said.status == 0, "notes are no warnings"


def test_the_server_notes_no_error(check, small, driver):
    log = small.data.parent / "log"
    before = log.stat().st_size
    check(uri(small, "guest", "guest"), "--driver", driver)
    noted = log.read_text(errors="replace")[before:]
    errors = [line for line in noted.splitlines() if "ERROR" in line or "FATAL" in line]
    assert [line for line in errors if '"database_mode"' not in line] == [], "but for what ksycopg2 asks by itself"


@pytest.mark.parametrize("whose", ["ROLE guest", "DATABASE postgres"])
def test_the_limit_of_a_user_or_a_database_comes_first(check, small, whose):
    administer(small, f"ALTER {whose} CONNECTION LIMIT 7")
    said = check(uri(small, "guest", "guest"), "--json", "--workers", 1)
    administer(small, f"ALTER {whose} CONNECTION LIMIT -1")
    assert (said.facts["own_limit"], said.json["room"]) == (7, 7)
    assert said.json["suggested"]["maxconn"] == 3


def test_a_full_server_is_a_warning(check, small):
    with ExitStack() as stack:
        for _ in range(26):
            stack.enter_context(closing(psycopg2.connect(uri(small, "other", "other"))))
        said = check(uri(small, "guest", "guest"), "--json")
    assert said.status == 1
    assert "server-full" in said.codes


def test_the_users_own_sizes_are_judged(check, small):
    said = check(small.tcp_dsn, "--json", "--workers", 4, "--maxconn", 5)
    assert (said.status, said.codes[0]) == (1, "maxconn-above-limit")
    said = check(small.tcp_dsn, "--workers", 4, "--maxconn", 5)
    assert "error" in said.out
    assert "4 workers x 5 connections are more than the 18 that the server has for them" in said.out
    assert check(small.tcp_dsn, "--workers", 1, "--maxconn", 5).status == 0


def test_options_come_from_the_environment(check, small, monkeypatch):
    monkeypatch.setenv("DBPOOL_RESET", "none")
    monkeypatch.setenv("DBPOOL_NAME", "mine")
    said = check(small.tcp_dsn, "--json", "--workers", 1, "--maxconn", 5)
    assert (said.status, said.codes) == (1, ["reset-none"])
    assert said.json["suggested"]["config"]["name"] == "mine"
    monkeypatch.setenv("DBPOOL_TIMEOUT", "soon")
    refused = check(small.tcp_dsn)
    assert refused.status == 2
    assert "DBPOOL_TIMEOUT has no value" in refused.err


def test_a_server_that_takes_no_writes_is_seen(check, cluster):
    said = check(cluster(default_transaction_read_only="on").tcp_dsn, "--json")
    assert said.facts["read_only"] is True
    assert (said.json["more"]["role"], said.json["more"]["default_transaction_read_only"]) == ("primary", "on")
    assert "read-only-server" in said.codes


def test_a_standby_is_seen(check, cluster, monkeypatch):
    primary = cluster()
    with new_standby(primary) as standby:
        standby.start()
        said = check(standby.tcp_dsn, "--json")
        assert (said.status, said.json["more"]["role"], said.facts["read_only"]) == (0, "standby", True)
        monkeypatch.setenv("DBPOOL_ROLE", "read-write")
        said = check(standby.tcp_dsn, "--json")
        assert (said.status, said.codes[0]) == (1, "role-mismatch")


def test_an_idle_limit_of_the_server_has_its_answer_in_the_suggestion(check, cluster):
    limited = cluster(idle_session_timeout="5min")
    said = check(limited.tcp_dsn, "--json", "--maxconn", 3)
    if "idle_session_timeout" not in said.json["settings"]:
        pytest.skip("a PostgreSQL before 14 has no such limit")
    assert "idle-limit-below-ours" in said.codes
    assert said.json["suggested"]["config"]["ping_interval"] == 150
    assert "idle-limit-below-ours" not in check(limited.tcp_dsn, "--json").codes


USE = """
import json, sys
code, dsn = json.load(sys.stdin)
namespace = {}
exec(code, namespace)
with namespace["new_pool"](dsn) as pool:
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT 6 * 7")
        print(cursor.fetchone()[0], pool.minconn, pool.maxconn, namespace["config"].timeout)
"""


FORMS = [
    ("psycopg2", "words"), ("psycopg2", "postgresql"), ("psycopg2", "kingbase"), ("psycopg", "words"),
    ("psycopg", "postgres"), ("ksycopg2", "words"), ("ksycopg2", "postgresql"), ("ksycopg2", "kingbase8"),
]  # fmt: skip


@pytest.mark.parametrize(("driver", "form"), FORMS)
def test_the_code_can_be_pasted_and_works(check, small, driver, form):
    import_or_skip(driver)
    dsn = small.tcp_dsn if form == "words" else uri(small, scheme=form)
    said = check(dsn, "--driver", driver, "--json", "--web-timeout", 8, "--workers", 3)
    order = json.dumps([said.json["code"], dsn])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE], input=order, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("42 1 3 4.0\n", "")
    assert check(dsn, "--driver", driver, "--web-timeout", 8, "--workers", 3).out.endswith(said.json["code"])


def test_a_dsn_may_come_from_the_environment(check, dsn, monkeypatch):
    monkeypatch.setenv("DBPOOL_CHECK_DSN", dsn)
    assert check().status == 0


def test_nothing_is_left_open(check, small, driver):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        check(small.tcp_dsn, "--driver", driver)
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # epoll and its like, once
