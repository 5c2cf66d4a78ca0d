"""The history: rows in a ring that never grows, what can be asked of it, and who writes it."""

from __future__ import annotations

import gc
import math
import sys
import weakref

import pytest

from dbpool import ThreadedConnectionPool
from dbpool.history import MOST_ROWS, History
from dbpool.tally import Times

from .threads import Caller, eventually

DAY = 24 * 3600


@pytest.fixture
def figures(make, undisturbed):
    """Returns the stats of a pool with some of them replaced."""
    known = make().stats()._asdict()

    class Figures:
        def __init__(self, **changed):
            vars(self).update({**known, **changed})

    return Figures


# ---- the ring --------------------------------------------------------------------------------------------------------


def test_a_history_keeps_the_last_rows_and_no_more(figures):
    history = History(10, 1)
    for now in range(100):
        history.add(figures(used=now), float(now))
    assert [moment for moment, _ in history.series("used")] == list(map(float, range(89, 100)))
    assert history.series("used", 2) == [(97.0, 97.0), (98.0, 98.0), (99.0, 99.0)]
    assert (len(history), history.span(), history.span(3)) == (11, 10.0, 3.0)


def test_an_empty_one_answers_too():
    history = History()
    assert (len(history), history.series("used"), history.span()) == (0, [], 0.0)
    assert (history.mean("used"), history.peak("used"), history.growth("leases")) == (None, None, 0)
    assert (history.percentile(50), history.mean_hold(), history.full_since()) == (None, None, None)


def test_gauges_have_a_mean_and_a_peak_and_counters_grow(figures):
    history = History(60, 1)
    for now, (used, leases) in enumerate([(1, 10), (3, 30), (2, 35)]):
        history.add(figures(used=used, leases=leases, dead={"ping": now}, discards={"idle": 2, "lost": now}), now)
    assert (history.mean("used"), history.peak("used"), history.growth("leases")) == (2, 3, 25)
    assert (history.growth("dead"), history.growth("discards"), history.growth("leases", 1)) == (2, 2, 5)


def test_a_counter_that_began_anew_is_not_taken_to_have_shrunk(figures):
    history = History(60, 1)
    for now, leases in enumerate([10, 15, 2, 4]):
        history.add(figures(leases=leases), now)
    assert history.growth("leases") == 5 + 2 + 2


def test_how_long_a_connection_is_held_follows_from_how_many_are(figures):
    history = History(60, 1)
    for now in range(11):  # 4 in use all the time, 20 leased in a second: each is held for 0.2 s
        history.add(figures(used=4, leases=20 * now), now)
    assert history.mean_hold() == pytest.approx(0.2)


def test_percentiles_are_of_what_happened_meanwhile(figures):
    waits, history = Times(), History(60, 1)
    waits.add(50.0)  # before
    history.add(figures(wait_times=waits.frozen()), 0.0)
    for now in range(1, 11):
        waits.add(now / 100)
        history.add(figures(wait_times=waits.frozen()), float(now))
    assert history.percentile(50) == pytest.approx(0.05, rel=0.2)
    assert history.percentile(100) == 0.1
    assert history.percentile(50, seconds=1) == pytest.approx(0.075, rel=0.4)
    assert history.percentile(50, of="connects") is None


def test_it_tells_since_when_everything_is_in_use_and_somebody_waits(figures):
    history = History(60, 1)
    for now, (used, idle, waiting) in enumerate([(2, 0, 1), (1, 1, 0), (2, 0, 3), (2, 0, 2)]):
        history.add(figures(used=used, idle=idle, waiting=waiting), now)
    assert history.full_since() == 2
    history.add(figures(used=1, idle=1, waiting=0), 4)
    assert history.full_since() is None


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ((0, 1), ValueError, "seconds must be above 0"),
        ((900, 0), ValueError, "period must be above 0"),
        ((900, 0.001), ValueError, "period must be at least"),
        ((2.0 * MOST_ROWS, 1), ValueError, "seconds at most"),
        (("x", 1), TypeError, "seconds must be a number"),
        ((math.nan, 1), ValueError, "seconds must be between"),
        ((None, 1), ValueError, "seconds must be above 0"),
    ],
)
def test_what_cannot_be_kept_is_refused(make, kind, args, error, said):
    with pytest.raises(error, match=said):
        make(kind).history(*args)


def test_what_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"field must be one of size, used.*not 'colour'"):
        History().series("colour")
    with pytest.raises(ValueError, match="of must be one of waits, connects"):
        History().percentile(50, of="leases")


@pytest.mark.synchronous
def test_a_day_takes_no_more_memory_than_the_first_quarter_of_an_hour(make, driver, undisturbed):
    driver.keep = False
    pool = make(maxconn=3)
    history, blocks = History(), {}
    assert history.nbytes <= 500_000
    for second in range(DAY):
        if second % 60 == 0:
            pool.putconn(pool.getconn(), close=second % 120 == 0)
            stats = pool.stats()
        history.add(stats, float(second))
        if second in (900, DAY - 60):
            gc.collect()
            blocks[second] = sys.getallocatedblocks()  # of the whole interpreter
    assert blocks[DAY - 60] - blocks[900] < 200
    assert (len(history), history.span()) == (901, 900)
    assert history.growth("leases") == 15


# ---- of a pool -------------------------------------------------------------------------------------------------------


def test_it_begins_when_it_is_asked_for_and_is_the_same_from_then_on(make, kind, undisturbed):
    pool = make(kind)
    assert pool._history is None
    history = pool.history()
    assert (len(history), pool.history()) == (1, history)
    assert pool.history(60, 0.5) is not history
    assert pool.history(60, 0.5).seconds == 60


def test_the_housekeeper_writes_it(make, waiting_kind):
    pool = make(waiting_kind, 1, 2)
    pool.putconn(pool.getconn())
    history = pool.history(5, 0.01)
    eventually(lambda: len(history) > 5)
    conn = pool.getconn()
    eventually(lambda: history.series("used")[-1][1] == 1)
    pool.putconn(conn)
    eventually(lambda: history.series("used")[-1][1] == 0)
    assert history.growth("leases") == 1


def test_it_is_written_no_more_once_the_pool_is_closed(make, waiting_kind):
    pool = make(waiting_kind, 1, 2)
    history = pool.history(5, 0.01)
    eventually(lambda: len(history) > 2)
    pool.close()
    written = [len(history)]

    def rests():
        written.append(history._written)
        return written[-1] == written[-2]

    eventually(rests)


@pytest.mark.synchronous
def test_it_keeps_no_pool_alive(make, driver):
    pool = ThreadedConnectionPool(0, 1, connect=driver.connect)
    pool.history(5, 0.01)
    known = weakref.ref(pool)
    del pool
    gc.collect()
    eventually(lambda: known() is None)


def test_without_a_housekeeper_check_writes_it(make, kind, clock):
    pool = make(kind, background=False)
    history = pool.history()
    clock.leap(1)
    pool.check()
    assert [moment for moment, _ in history.series("size")] == [clock() - 1, clock()]


def test_it_is_written_while_the_pools_lock_is_held(make):
    pool = make()
    history = pool.history(5, 0.01)
    with pool._lock:
        had = Caller(lambda: history._written).result()
        eventually(lambda: history._written > had + 3)
