"""A check of a real MariaDB, through each driver."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from urllib.parse import quote

import pytest
from asking import ask, tell
from servers import import_or_skip

pymysql = import_or_skip("pymysql")


@pytest.fixture(params=["pymysql", "MySQLdb"])
def driver(request):
    import_or_skip(request.param)
    return request.param


@pytest.fixture
def admin(mariadb):
    """A connection of the administrator's, and users: one who may see nothing of others, one with a limit."""
    with closing(pymysql.connect(**mariadb, autocommit=True)) as conn:
        for name, limit in (("plain", 0), ("few", 4)):
            tell(
                conn,
                f"CREATE OR REPLACE USER {name}@localhost IDENTIFIED BY 's@cret' WITH MAX_USER_CONNECTIONS {limit}",
            )
        yield conn
        tell(conn, "SET GLOBAL wait_timeout = 28800", "SET GLOBAL read_only = 0", "SET GLOBAL max_statement_time = 0")


def uri(mariadb, user="plain:s%40cret", database=""):
    return f"mysql://{user}@localhost/{database}?unix_socket={quote(mariadb['unix_socket'])}"


def test_the_facts_are_those_of_the_server(check, mariadb, admin, driver):
    others = [pymysql.connect(**mariadb) for _ in range(3)]
    said = check(uri(mariadb), "--driver", driver, "--json")
    for conn in others:
        conn.close()
    assert (said.status, said.err) == (0, "")
    assert said.json["server"] == f"MariaDB {ask(admin, 'SELECT version()')}"
    assert said.facts["max_connections"] == ask(admin, "SELECT @@max_connections")
    assert said.facts["used"] >= said.facts["others"] >= 4, "the administrator's, beside the other tests'"
    assert (said.facts["own_limit"], said.facts["read_only"], said.facts["pooling"]) == (None, False, None)
    assert said.facts["idle_limit"] == said.json["settings"]["wait_timeout"] == 28800
    assert (len(said.json["connects"]), len(said.json["trips"])) == (5, 20)


def test_the_limits_are_judged(check, mariadb, admin, driver):
    tell(admin, "SET GLOBAL wait_timeout = 60", "SET GLOBAL read_only = 1", "SET GLOBAL max_statement_time = 90")
    said = check(uri(mariadb, "few:s%40cret"), "--driver", driver, "--json", "--maxconn", 5, "--web-timeout", 30)
    assert said.status == 1
    assert set(said.codes) == {
        "maxconn-above-limit", "idle-limit-below-ours", "read-only-server", "statement-limit-above-web-timeout",
    }  # fmt: skip
    assert (said.facts["own_limit"], said.json["room"]) == (4, 4)
    assert said.json["suggested"]["config"]["ping_interval"] == 30
    text = next(finding["text"] for finding in said.json["findings"] if finding["code"] == "idle-limit-below-ours")
    assert "(wait_timeout)" in text


CASES = {
    "wrong password": ("plain:hunter2", "", "Access denied"),
    "unknown database": ("plain:s%40cret", "nowhere", "nowhere"),
}


@pytest.mark.parametrize("case", CASES)
def test_who_cannot_get_in_is_told_why(check, mariadb, admin, driver, case):
    user, database, text = CASES[case]
    said = check(uri(mariadb, user, database), "--driver", driver)
    assert (said.status, said.out) == (2, "")
    assert text in said.err
    assert said.err.count("\n") == 1
    assert "hunter2" not in said.err
    assert "s@cret" not in said.err


def test_a_refused_port_is_told(check, driver):
    said = check("mysql://me:hunter2@127.0.0.1:1/shop", "--driver", driver)
    assert said.status == 2
    assert "connect" in said.err
    assert "hunter2" not in said.err


USE = """
import json, sys
code, settings = json.load(sys.stdin)
namespace = {}
exec(code, namespace)
with namespace["new_pool"](settings) as pool:
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT 6 * 7")
        print(cursor.fetchone()[0], pool.minconn, pool.maxconn)
"""


def test_the_code_can_be_pasted_and_works(check, mariadb, admin, driver):
    said = check(uri(mariadb), "--driver", driver, "--json", "--workers", 2, "--threads", 4)
    settings = {"unix_socket": mariadb["unix_socket"], "user": "plain", "password": "s@cret"}
    command = [sys.executable, "-W", "error", "-c", USE]
    order = json.dumps([said.json["code"], settings])
    done = subprocess.run(command, input=order, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("42 1 4\n", "")
