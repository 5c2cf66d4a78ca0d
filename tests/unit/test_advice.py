"""Advice on options: each finding is found where it belongs and nowhere else, and what is suggested needs none."""

from __future__ import annotations

import re

import pytest

from dbpool import Limiter, PoolConfig, advice
from dbpool.advice import Deployment, Facts, Finding, fitting, lint, room, suggested


def found(options=None, minconn=1, maxconn=5, around=None, **facts):
    """Return the findings by their codes."""
    findings = lint(PoolConfig(**options or {}), minconn, maxconn, Deployment(**around or {}), Facts(**facts))
    assert len({finding.code for finding in findings}) == len(findings)
    return {finding.code: finding for finding in findings}


LIMIT = {"max_connections": 100, "reserved": 3}  # 87 are left
POOLER = {"pooling": "transaction"}

# code -> severity, a case that has it, one as near to it as can be that has it not
CASES = {
    "no-timeout": ("warning", {"options": {"timeout": None}}, {"options": {"timeout": 0}}),
    "timeout-above-web-timeout": ("warning", {"around": {"web_timeout": 10}}, {"around": {"web_timeout": 10.1}}),
    "no-connect-timeout": (
        "warning",
        {"options": {"connect_timeout": None}},
        {"options": {"connect_timeout": 10}},
    ),
    "connect-timeout-above-timeout": ("warning", {"options": {"timeout": 9.9}}, {"options": {"timeout": 0}}),
    "no-check-timeout": ("warning", {"options": {"check_timeout": None}}, {"options": {"check_timeout": 60}}),
    "ping-after-above-idle-timeout": (
        "note",
        {"options": {"ping_after": 600}},
        {"options": {"ping_after": 600, "idle_timeout": 0}, "maxconn": 1},
    ),
    "ping-interval-above-idle-timeout": (
        "warning",
        {"options": {"ping_interval": 600}, "minconn": 0},
        {"options": {"ping_interval": 599}, "minconn": 0},
    ),
    "lifetime-below-idle-timeout": (
        "warning",
        {"options": {"max_lifetime": 600}},
        {"options": {"max_lifetime": 600, "idle_timeout": None}},
    ),
    "ping-always": ("note", {"options": {"ping_after": 0}}, {"options": {"ping_after": None}}),
    "reset-none": ("warning", {"options": {"reset": "none"}}, {"options": {"reset": print}}),
    "reset-commit": ("warning", {"options": {"reset": "commit"}}, {"options": {"reset": "rollback"}}),
    "max-uses-one": ("warning", {"options": {"max_uses": 1}}, {"options": {"max_uses": 2}}),
    "no-deadlines": ("note", {"options": {"background": False}}, {"options": {"background": True}}),
    "no-helper": (
        "warning",
        {"options": {"background": False, "leak_threshold": 60}},
        {"options": {"background": False}},
    ),
    "nothing-to-start": (
        "warning",
        {"options": {"start": "background"}, "minconn": 0},
        {"options": {"start": "background"}},
    ),
    "overflow-without-limit": (
        "warning",
        {"options": {"max_overflow": None}},
        {"options": {"max_overflow": None, "limiter": Limiter(9)}},
    ),
    "maxconn-above-threads": ("note", {"around": {"threads": 4}}, {"around": {"threads": 5}}),
    "idle-timeout-zero": (
        "note",
        {"options": {"idle_timeout": 0}},
        {"options": {"idle_timeout": 0}, "minconn": 5},
    ),
    "minconn-above-limiter": (
        "error",
        {"options": {"limiter": Limiter(1)}, "minconn": 2},
        {"options": {"limiter": Limiter(2)}, "minconn": 2},
    ),
    "maxconn-above-limit": ("error", {**LIMIT, "maxconn": 88}, {**LIMIT, "maxconn": 87}),
    "rollout-above-limit": (
        "warning",
        {**LIMIT, "maxconn": 11, "around": {"workers": 4}},
        {**LIMIT, "maxconn": 10, "around": {"workers": 4}},
    ),
    "minconn-above-limit": (
        "error",
        {**LIMIT, "minconn": 3, "around": {"workers": 30}},
        {**LIMIT, "minconn": 2, "around": {"workers": 30}},
    ),
    "role-mismatch": (
        "error",
        {"options": {"role": "read-write"}, "read_only": True},
        {"options": {"role": "read-only"}, "read_only": True},
    ),
    "read-only-server": ("note", {"read_only": True}, {"read_only": False}),
    "server-full": ("warning", {**LIMIT, "used": 88}, {**LIMIT, "used": 87}),
    "slow-connect": ("warning", {"connecting": 5.1}, {"connecting": 5.0}),
    "slow-answers": ("warning", {"round_trip": 2.6}, {"round_trip": 2.5}),
    "idle-limit-below-ours": (
        "warning",
        {"idle_limit": 300.0},
        {"idle_limit": 300.0, "options": {"ping_interval": 240}},
    ),
    "no-idle-in-transaction-limit": (
        "note",
        {"idle_in_transaction_limit": 0.0},
        {"idle_in_transaction_limit": 0.0, "options": {"leak_threshold": 30}},
    ),
    "statement-limit-above-web-timeout": (
        "note",
        {"statement_limit": 30.0, "around": {"web_timeout": 30}},
        {"statement_limit": 29.0, "around": {"web_timeout": 30}},
    ),
    "pooler-limits": ("note", {"pooling": "session"}, {"pooling": "direct"}),
    "statement-pooling": ("error", {"pooling": "statement"}, POOLER),
    "session-reset-behind-pooler": (
        "warning",
        {**POOLER, "options": {"reset": "session"}},
        {"pooling": "session", "options": {"reset": "session"}},
    ),
    "prepared-behind-pooler": ("note", {**POOLER, "driver": "psycopg"}, {**POOLER, "driver": "psycopg2"}),
}


@pytest.mark.parametrize("code", CASES)
def test_it_is_found(code):
    severity, case, _ = CASES[code]
    assert found(**case)[code].severity == severity


@pytest.mark.parametrize("code", CASES)
def test_it_is_not_found_where_it_is_not(code):
    assert code not in found(**CASES[code][2])


def test_every_finding_has_its_cases():
    with open(advice.__file__, encoding="utf-8") as source:
        text = source.read()
    codes = set(re.findall(r'Finding\(f?"([^"]+)"', text))
    made = "{name.replace('_', '-')}-above-idle-timeout"
    assert codes - {made} | {"ping-after-above-idle-timeout", "ping-interval-above-idle-timeout"} == set(CASES)


def test_the_defaults_need_no_advice():
    assert found() == {}


def test_facts_that_are_not_known_are_taken_to_be_well():
    assert found(around={"workers": 1000, "web_timeout": 60}) == {}


def test_the_worst_comes_first():
    options = {"ping_after": 0, "reset": "none"}
    severities = [finding.severity for finding in found(options, maxconn=99, **LIMIT).values()]
    assert severities == ["error", "warning", "note"]


def test_a_finding_tells_the_numbers():
    text = found(maxconn=30, around={"workers": 4}, **LIMIT)["maxconn-above-limit"].text
    assert text == "4 workers x 30 connections are more than the 87 that the server has for them"


@pytest.mark.parametrize("code", CASES)
def test_a_text_is_one_line(code):
    text = found(**CASES[code][1])[code].text
    assert "\n" not in text
    assert 20 < len(text) < 160


def test_a_pooler_that_may_give_each_transaction_another_session_is_spoken_of_with_care():
    finding = found({"reset": "session"}, pooling="unknown")["session-reset-behind-pooler"]
    assert finding.severity == "note"
    assert "perhaps" in finding.text


def test_ping_after_has_no_effect_at_all_where_nothing_is_kept():
    assert found({"ping_after": 700}, minconn=0)["ping-after-above-idle-timeout"].severity == "warning"


def test_overflow_counts():
    assert "maxconn-above-limit" in found({"max_overflow": 20}, maxconn=80, **LIMIT)
    assert "maxconn-above-limit" not in found({"max_overflow": 20, "limiter": Limiter(40)}, maxconn=80, **LIMIT)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (({"minconn": 3, "maxconn": 2}), "minconn must not be above maxconn"),
        (({"maxconn": 0}), "maxconn must be at least 1"),
        (({"around": {"workers": 0}}), "workers must be at least 1"),
        (({"around": {"threads": 0}}), "threads must be at least 1"),
    ],
)
def test_bad_numbers_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        found(**arguments)


# ---- how many ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "places"),
    [
        ({}, None),
        ({"max_connections": 100}, 90),
        ({"max_connections": 100, "reserved": 3, "others": 10}, 87),
        ({"max_connections": 100, "reserved": 3, "others": 50}, 47),
        ({"max_connections": 100, "own_limit": 20}, 20),
        ({"own_limit": 20}, 20),
        ({"max_connections": 5}, 0),
    ],
)
def test_the_room_that_a_server_has(facts, places):
    assert room(Facts(**facts)) == places


@pytest.mark.parametrize(("workers", "fits"), [(1, 43), (4, 10), (8, 5), (43, 1), (44, 0)])
def test_what_fits_is_what_the_document_says(workers, fits):
    assert fitting(Facts(**LIMIT), workers) == fits


def test_nobody_knows_what_fits_into_a_server_that_does_not_tell():
    assert fitting(Facts(), 4) is None


@pytest.mark.parametrize(
    ("around", "facts", "maxconn"),
    [
        ({"workers": 1}, LIMIT, 10),
        ({"workers": 8}, LIMIT, 5),
        ({"workers": 1, "threads": 40}, LIMIT, 40),
        ({"workers": 1, "threads": 2}, LIMIT, 2),
        ({"workers": 500}, LIMIT, 1),
        ({"workers": 500}, {}, 10),
    ],
)
def test_the_suggested_size(around, facts, maxconn):
    assert suggested(PoolConfig(), Deployment(**around), Facts(**facts))[:2] == (1, maxconn)


def test_overflow_is_left_room_for():
    assert suggested(PoolConfig(max_overflow=2), Deployment(8), Facts(**LIMIT))[:2] == (1, 3)


UNWELL = Facts(idle_limit=300.0, pooling="transaction", read_only=False, **LIMIT)


def test_what_is_suggested_goes_with_the_facts():
    around = Deployment(4, 8, 6.0)
    for config in (PoolConfig(reset="session"), PoolConfig(timeout=None), PoolConfig(connect_timeout=None)):
        minconn, maxconn, better = suggested(config, around, UNWELL)
        left = [finding.code for finding in lint(better, minconn, maxconn, around, UNWELL)]
        assert set(left) <= {"pooler-limits", "no-connect-timeout"}


def test_what_is_well_is_left_as_it_is():
    config = PoolConfig(timeout=3, connect_timeout=2, ping_interval=200, name="mine")
    assert suggested(config, Deployment(2), UNWELL)[2] == config


def test_a_finding_can_be_taken_apart():
    assert Finding("code", "note", "text")._asdict() == {"code": "code", "severity": "note", "text": "text"}
