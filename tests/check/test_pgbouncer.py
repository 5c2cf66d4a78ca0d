"""A check through a real PgBouncer: it is seen, in each of its modes, and named if it tells its name."""

from __future__ import annotations

import pytest
from bouncer import bouncer
from clusters import new_cluster

MODES = ("transaction", "session")


@pytest.fixture(scope="module")
def town(installation):
    """A server behind."""
    with new_cluster(installation, max_connections="40") as town:
        yield town.start()


@pytest.mark.parametrize("mode", MODES)
def test_its_mode_is_seen(check, town, driver, mode):
    with bouncer(town, pool_mode=mode, admin_users="postgres") as dsn:
        said = check(dsn, "--driver", driver, "--json")
    assert (said.status, said.facts["pooling"]) == (0, mode)
    assert said.json["pooler"].startswith("PgBouncer 1.")
    assert "pooler-limits" in said.codes
    assert ("prepared-behind-pooler" in said.codes) == (driver == "psycopg" and mode != "session")
    assert ("prepare_threshold=None" in said.json["code"]) == (driver == "psycopg")


def test_one_that_takes_no_transactions_is_an_error(check, town, driver):
    with bouncer(town, pool_mode="statement", admin_users="postgres") as dsn:
        said = check(dsn, "--driver", driver, "--json")
    assert (said.status, said.facts["pooling"]) == (1, "statement")
    assert said.codes[0] == "statement-pooling"
    assert said.facts["max_connections"] == 40


@pytest.mark.parametrize("turn", ["0", "1"])
def test_in_whatever_order_it_lends_its_sessions(check, town, turn):
    with bouncer(town, pool_mode="transaction", server_round_robin=turn) as dsn:
        for _ in range(3):
            assert check(dsn, "--json").facts["pooling"] == "transaction"


def test_one_that_does_not_tell_its_name_is_perhaps_one(check, town):
    with bouncer(town, pool_mode="transaction") as dsn:
        said = check(dsn)
    assert said.status == 0
    assert "perhaps PgBouncer, or its like; with transaction pooling" in said.out


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_one_with_a_single_session_is_not_waited_for(check, town, mode):
    with bouncer(town, pool_mode=mode, default_pool_size="1", admin_users="postgres") as dsn:
        said = check(dsn, "--json")
    assert (said.status, said.facts["pooling"]) == (0, "unknown")
    assert said.facts["max_connections"] == 40, "the rest is asked all the same"


def test_a_session_reset_behind_it_is_a_warning(check, town, monkeypatch):
    monkeypatch.setenv("DBPOOL_RESET", "session")
    with bouncer(town, pool_mode="transaction") as dsn:
        said = check(dsn, "--json", "--maxconn", 3)
    assert said.status == 1
    assert "session-reset-behind-pooler" in said.codes
    assert "reset" not in said.json["suggested"]["config"]
