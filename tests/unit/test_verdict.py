"""The verdict: each rule alone, over facts that are made up. tests/faults/test_verdicts.py makes each happen."""

from __future__ import annotations

import pytest

from dbpool.holders import PoolUser
from dbpool.tally import Tally
from dbpool.verdict import (
    CLOSED,
    CODES,
    EXHAUSTED,
    HEALTHY,
    LEAK,
    LONG_HOLD,
    MISCONFIGURED,
    RECENT,
    REFUSES,
    SLOW,
    Facts,
    judge,
)

NOW = 1000.0


def user(seconds=0.5, site=None, at="app.py:3 in work"):
    return PoolUser(key=None, thread_id=7, thread="worker", task=None, seconds=seconds, at=at, site=site)


@pytest.fixture
def judged(make, undisturbed):
    """Returns the verdict on a pool of two, with some of its facts replaced."""
    known = make(name="orders", maxconn=2).stats()

    def judged(leases=(), stats=(), tally=(), **more):
        counted = Tally()
        for name, value in dict(tally).items():
            setattr(counted, name, value)
        fields = {**known._asdict(), "used": len(leases), "size": len(leases), **dict(stats)}
        return judge(Facts(type(known)(**fields), counted, NOW, list(leases), **more))

    return judged


FULL = [(user(), False), (user(), False)]
FAILING = {"failing_since": NOW - 12, "failed_at": NOW - 1}
REFUSED = {"last_error": "OperationalError: connection refused", "failing_since": NOW - 12}


def test_a_pool_with_nothing_the_matter_is_healthy(judged):
    found = judged(stats={"idle": 2, "size": 2})
    assert (found.code, str(found)) == (HEALTHY, "orders: healthy: 0 of 2 in use, 2 idle, 0 waiting")
    assert (found.who, found.since, found.place) == ((), None, None)


def test_all_in_use_is_healthy_as_long_as_nobody_waits(judged):
    assert judged(FULL).code == HEALTHY


def test_one_that_was_closed_says_so(judged):
    assert judged(stats={"closed": True}).code == CLOSED


def test_exhausted_names_who_and_since_when(judged):
    found = judged(FULL, {"waiting": 3}, waited=4.5, full_since=NOW - 30)
    assert (found.code, found.since, len(found.who)) == (EXHAUSTED, 30, 2)
    assert found.text.startswith("all 2 connections are in use, 3 callers wait, the first for 4.5 s; held by thread 'w")
    assert found.place == "app.py:3 in work"


def test_a_time_out_just_now_counts_though_nobody_waits_any_more(judged):
    assert judged(FULL, tally={"timed_out_at": NOW - 5}).code == EXHAUSTED
    assert judged(FULL, tally={"timed_out_at": NOW - RECENT}).code == HEALTHY
    assert judged(FULL[:1], {"idle": 1}, {"timed_out_at": NOW - 5}).code == HEALTHY


def test_callers_who_wait_for_the_database_are_not_the_pools_fault(judged):
    busy = [(user(8.0), True), (user(9.0), True)]
    found = judged(busy, {"waiting": 1}, waited=3)
    assert (found.code, len(found.who)) == (SLOW, 2)
    assert "2 of 2 wait for the database's answer" in found.text
    assert judged([(user(0.1), True), (user(0.1), True)], {"waiting": 1}).code == EXHAUSTED  # they have only begun


def test_connections_that_are_held_for_long_and_not_used_are_a_leak(judged):
    held = [(user(LONG_HOLD + 1, site="app.py:9 in forget"), False)] * 2
    found = judged(held, {"waiting": 1}, waited=1)
    assert (found.code, found.place, len(found.who)) == (LEAK, "app.py:9 in forget", 2)
    assert judged(held).code == HEALTHY  # nobody misses them
    assert judged([(user(2.0), False)] * 2, {"waiting": 1}, threshold=1.5).code == LEAK


def test_a_lease_beyond_leak_threshold_is_one_in_any_case(judged):
    assert judged([(user(6), False)], threshold=5).code == LEAK
    assert judged([(user(4), False)], threshold=5).code == HEALTHY
    assert judged([(user(6), True)], threshold=5).code == HEALTHY  # its caller waits for an answer


def test_so_is_a_connection_that_was_dropped_just_now(judged):
    told = NOW - 5, "a connection was dropped without putconn", "app.py:9 in forget"
    found = judged(tally={"last_leak": told})
    assert (found.code, found.since, found.place) == (LEAK, 5, "app.py:9 in forget")
    assert judged(tally={"last_leak": (NOW - RECENT, *told[1:])}).code == HEALTHY


@pytest.mark.parametrize(
    ("refusal", "code"), [("transient", REFUSES), (None, REFUSES), ("permanent", MISCONFIGURED), ("timeout", SLOW)]
)
def test_what_a_failed_connect_means_follows_from_how_it_failed(judged, refusal, code):
    found = judged(stats={**REFUSED, "waiting": 1}, tally={**FAILING, "refusal": refusal})
    assert (found.code, found.since) == (code, 12)
    assert "12.0 s: OperationalError: connection refused" in found.text


def test_a_connect_that_failed_long_ago_and_is_not_missed_matters_no_more(judged):
    old = {**FAILING, "failed_at": NOW - RECENT}
    assert judged(stats={**REFUSED, "idle": 1}, tally=old).code == HEALTHY
    assert judged(stats={**REFUSED, "waiting": 1}, tally=old).code == REFUSES
    assert judged(stats={**REFUSED, "minconn": 1}, tally=old).code == REFUSES


def test_a_server_that_is_full_of_us_says_that_maxconn_is_too_high(judged):
    full = {"last_error": "OperationalError: FATAL: sorry, too many clients already", "maxconn": 9, "waiting": 1}
    found = judged(FULL, full, {**FAILING, "refusal": "transient"})
    assert found.code == MISCONFIGURED
    assert "maxconn is 9, and the database lets us have 2" in found.text
    assert judged(stats=full, tally={**FAILING, "refusal": "transient"}).code == REFUSES  # full of others


def test_a_connect_that_is_under_way_for_long_is_slow(judged):
    assert judged(stats={"connecting": 1, "waiting": 1}, connecting=3.0).code == SLOW
    assert judged(stats={"connecting": 1, "waiting": 1}, connecting=0.3).code == HEALTHY


def test_so_is_an_answer_that_did_not_come(judged):
    assert judged(tally={"cut_off_at": NOW - 3}).code == SLOW
    assert judged(tally={"cut_off_at": NOW - RECENT}).code == HEALTHY


def test_options_that_do_not_suit_the_server_are_told_if_nothing_is_worse(judged):
    assert judged(misfit="the server ends sessions").code == MISCONFIGURED
    assert judged(FULL, {"waiting": 1}, misfit="the server ends sessions").code == EXHAUSTED


def test_a_verdict_is_one_line_and_its_code_is_known(judged, make, kind):
    pool = make(kind, name="a\nb\x1b[31m")
    found = pool.verdict()
    assert str(found).isprintable()
    assert str(found).startswith(r"a\nb\x1b[31m: healthy: ")
    assert found.code in CODES


def test_each_endpoint_has_its_own(endpoints_kind, driver):
    many = endpoints_kind(0, 1, connect=driver.connect)
    many.putconn(many.getconn("a"))
    assert {endpoint: found.code for endpoint, found in many.verdict().items()} == {"a": HEALTHY}
    many.closeall()
