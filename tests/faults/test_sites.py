"""Row 71: where connections were leased is kept as one text a lease: no frame, no local, and nothing that adds up."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
from fakes import FakeConnector, FakeDriver

from dbpool import ThreadedConnectionPool
from dbpool.tally import MOST_PLACES

LEASES = 30_000
MOST = 50_000  # bytes more after so many leases, and no lease is kept in less than 2
pytestmark = pytest.mark.fault(71)


@pytest.fixture
def pool():
    config = {"trace": True, "leak_threshold": 3600.0, "timeout": 0}
    with ThreadedConnectionPool(0, 4, connect=FakeConnector(FakeDriver().connect), config=config) as found:
        found.history()
        yield found


class Secret:
    """Something that a caller has at hand."""


def test_a_lease_keeps_nothing_of_its_callers_frame(pool):
    def lease():
        secret = Secret()
        known.append(weakref.ref(secret))
        return pool.getconn()

    known: list[weakref.ref[Secret]] = []
    conn = lease()
    gc.collect()
    assert known[0]() is None
    (holder,) = pool.holders()
    assert "test_sites.py" in holder.site
    assert "Secret" not in holder.site
    pool.putconn(conn)


def test_many_leases_from_many_places_do_not_add_up(pool):
    places: dict[str, object] = {}
    for number in range(100):
        exec(f"def lease_{number}(pool): pool.putconn(pool.getconn())", places)
    leases = [place for name, place in places.items() if name.startswith("lease_")]

    def lease(times: int) -> None:
        for number in range(times):
            leases[number % len(leases)](pool)

    lease(1000)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        lease(LEASES)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert pool.stats().leases == LEASES + 1000
    assert grown < MOST, f"{grown} bytes more"


def test_places_of_leaks_are_as_many_as_are_kept_and_no_more(pool):
    tally = pool._state.tally
    with pool._lock:
        for number in range(10_000):
            tally.leaked_at(f"/srv/shop.py:{number} in lease", float(number))
    assert len(tally.leak_places) == MOST_PLACES
    assert "/srv/shop.py:9999 in lease" in tally.leak_places
