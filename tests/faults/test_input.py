"""Row 67: whatever a parameter is given, it is right, or refused by its name before anything is opened or changed."""

from __future__ import annotations

import pytest
from fakes import FakeConnector, FakeDriver
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.checks import lease_all, unchanged
from unit.test_config import ANYTHING, RIGHT, is_count, is_seconds

from dbpool import Limiter, PersistentConnectionPool, SimpleConnectionPool, ThreadedConnectionPool
from dbpool.config import TIMEOUT_MAX

pytestmark = pytest.mark.fault(67)
KINDS = [SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool]
EDGES = st.sampled_from(
    [-1, -0.0, 0, float("nan"), float("inf"), -float("inf"), TIMEOUT_MAX, TIMEOUT_MAX + 1, True, "5"]
)
WHATEVER = st.one_of(ANYTHING, EDGES)


def refusal(call, *args, **kwargs):
    """Return what the error of a wrong argument says; None if it was taken."""
    try:
        call(*args, **kwargs)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", RIGHT)
@settings(max_examples=25, deadline=None)
@given(value=WHATEVER)
def test_a_pool_with_a_wrong_option_opens_nothing(kind, option, value):
    if RIGHT[option](value):
        return
    driver = FakeDriver()
    text = refusal(kind, 1, 2, connect=FakeConnector(driver.connect), config={option: value})
    assert text is not None
    assert option in text
    assert driver.calls == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(minconn=WHATEVER, maxconn=WHATEVER)
def test_a_pool_with_wrong_sizes_opens_nothing_and_one_that_is_resized_stays_as_it_is(kind, minconn, maxconn):
    if is_count(minconn, 0) and is_count(maxconn, max(minconn, 1)):
        return
    driver = FakeDriver()
    text = refusal(kind, minconn, maxconn, connect=FakeConnector(driver.connect))
    assert text is not None
    assert "minconn" in text or "maxconn" in text
    assert driver.calls == 0
    with kind(1, 2, connect=FakeConnector(driver.connect)) as pool:
        with unchanged(pool, driver):
            text = refusal(pool.resize, minconn, maxconn)
        assert text is not None
        assert "minconn" in text or "maxconn" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("idle", [0, 1])
@settings(max_examples=50, deadline=None)
@given(timeout=WHATEVER)
def test_a_wrong_timeout_of_any_method_changes_nothing(kind, idle, timeout):
    if is_seconds(timeout):
        return
    driver = FakeDriver()
    with kind(idle, 2, connect=FakeConnector(driver.connect)) as pool:
        for method in (pool.getconn, pool.connect, pool.close):
            with unchanged(pool, driver):
                text = refusal(method, timeout=timeout)
            assert text is not None, method
            assert "timeout" in text
        assert not pool.closed
        lease_all(pool)


@given(limit=WHATEVER)
def test_a_wrong_limit_is_refused(limit):
    text = refusal(Limiter, limit)
    assert (text is None) is is_count(limit, 1)
    assert text is None or "limit" in text
