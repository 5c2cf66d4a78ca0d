"""The size that an observed load takes, by Little's law."""

from __future__ import annotations

import pytest

from dbpool.advice import Load, size_by_load


def load(**changes):
    given = {"seconds": 100.0, "leases": 10_000, "used": 4.0, "waiting": 0.0, "peak": 9, "maxconn": 10, **changes}
    return Load(**given)


def test_the_mean_hold_is_what_is_in_use_by_what_is_leased_in_a_second():
    found = size_by_load(load())
    assert found.demand == 4.0
    assert found.mean_hold == pytest.approx(0.04)
    assert found.suggested == 8
    assert found.text.endswith("maxconn 10 suits it")


def test_callers_who_wait_want_a_connection_too():
    found = size_by_load(load(used=10.0, waiting=6.0))
    assert (found.demand, found.suggested) == (16.0, 24)
    assert found.text.endswith("24 would serve nearly all callers at once, maxconn is 10")


def test_a_pool_that_is_far_too_large_is_told_what_was_enough():
    found = size_by_load(load(maxconn=100))
    assert found.suggested == 9
    assert found.text.endswith("9 would be enough, maxconn is 100")


@pytest.mark.parametrize("changes", [{"leases": 0}, {"seconds": 0.0}])
def test_without_a_load_there_is_no_advice(changes):
    assert size_by_load(load(**changes)) is None


def test_a_load_that_is_hardly_one_takes_one():
    assert size_by_load(load(used=0.0, peak=0, maxconn=1)).suggested == 1
