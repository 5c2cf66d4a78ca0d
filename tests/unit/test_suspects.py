"""One connection was found dead, or the machine was suspended: all the others are asked before they are used."""

from __future__ import annotations

import pytest

from dbpool import PoolTimeout

from .checks import adds_up
from .threads import Caller, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def asleep(monkeypatch):
    """For how long the machine was suspended in all: `asleep.append(seconds)`."""
    spans = [0.0]
    monkeypatch.setattr("dbpool.upkeep.slept", lambda: sum(spans))
    return spans


def idle(pool, number):
    conns = [pool.getconn() for _ in range(number)]
    for conn in conns:
        pool.putconn(conn)
        conn.pings = 0
    return conns


def test_one_dead_has_all_older_ones_asked_and_no_newer_one(make, kind, clock):
    pool = make(kind, 0, 5, ping_after=60.0, check_after=None)
    first, second, dead = idle(pool, 3)
    dead.mute = True
    clock.leap(60.0)
    got = [pool.getconn() for _ in range(2)]
    assert dead.closes == 1
    assert (first.pings, second.pings) == (1, 1)
    newer = pool.getconn()
    assert newer not in (first, second, dead)
    for conn in (*got, newer):
        pool.putconn(conn)
    for conn in [pool.getconn() for _ in range(3)]:
        pool.putconn(conn)
    assert (first.pings, second.pings, newer.pings) == (1, 1, 0)


def test_all_dead_costs_one_question_each_and_no_wait(make, kind, clock, driver, monkeypatch):
    monkeypatch.setattr("dbpool.pool.ThreadWaiter.sleep", None)
    pool = make(kind, 4, 4, ping_after=60.0, background=False)
    for conn in driver.made:
        conn.mute = True
    clock.leap(60.0)
    assert pool.getconn(timeout=0).number == 5
    assert [conn.pings for conn in driver.made] == [1, 1, 1, 1, 0]
    assert pool.stats().discards == {"lost": 4}
    assert adds_up(pool)


def test_a_suspect_is_asked_however_fresh_it_is(make, kind, clock):
    pool = make(kind, 0, 2, ping_after=None, check_after=None)
    first, second = idle(pool, 2)
    pool._state.doubt()
    assert pool.getconn() is second
    assert (first.pings, second.pings) == (0, 1)


def test_a_lost_connection_at_put_has_the_others_asked(make, kind):
    pool = make(kind, 0, 2)
    first, second = pool.getconn(), pool.getconn()
    pool._opener.connector.is_lost = lambda conn: True
    first.execute()
    first.fail_rollback = True
    pool.putconn(first)
    assert pool.stats().discards == {"lost": 1}
    pool.putconn(second)
    assert pool.getconn() is second
    assert second.pings == 1


def test_a_failed_reset_of_a_connection_that_is_there_has_nobody_asked(make, kind):
    pool = make(kind, 0, 2)
    first, second = pool.getconn(), pool.getconn()
    first.execute()
    first.fail_rollback = True
    pool.putconn(first)
    pool.putconn(second)
    assert pool.getconn() is second
    assert second.pings == 0
    assert pool.stats().discards == {"reset failed": 1}


def test_a_time_out_after_a_loss_names_it_as_the_cause(make, clock, driver):
    pool = make(maxconn=1, ping_after=60.0, timeout=50.0, connect_timeout=None)
    (dead,) = idle(pool, 1)
    dead.mute = True
    clock.leap(60.0)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 2)
    clock.leap(51.0)
    with pytest.raises(PoolTimeout) as caught:
        caller.result()
    assert "a connection was lost: server does not answer" in str(caught.value.__cause__)


def test_a_doubt_that_arises_during_a_look_outlives_it(make, clock):
    pool = make(maxconn=2, ping_after=60.0)
    (conn,) = idle(pool, 1)
    real = conn.ping
    conn.ping = lambda: (real(), pool._state.doubt())
    clock.leap(60.0)
    pool.putconn(pool.getconn())
    conn.ping = real
    pool.putconn(pool.getconn())
    assert conn.pings == 2, "the answer was from before the doubt"
    pool.putconn(pool.getconn())
    assert conn.pings == 2


# ---- suspended ---------------------------------------------------------------------------------------------


@pytest.mark.fault(65)
@pytest.mark.parametrize("look", ["getconn", "sweep"])
def test_a_machine_that_slept_has_everybody_asked(make, kind, clock, asleep, look):
    pool = make(kind, 0, 2, check_after=1.0, ping_after=3600.0, max_lifetime=None, idle_timeout=None)
    first, second = idle(pool, 2)
    asleep.append(300.0)
    clock.leap(1.0)
    if look == "sweep":
        pool._tidy(None)
    assert pool.getconn() is second
    assert (first.pings, second.pings) == (0, 1)
    assert pool.getconn() is first
    assert first.pings == 1


def test_the_time_asleep_counts_for_every_limit(make, clock, asleep):
    pool = make(maxconn=3, ping_after=3600.0, max_lifetime=7200.0, lifetime_jitter=0, idle_timeout=None)
    conn, other = idle(pool, 2)
    asleep.append(7100.0)
    pool._tidy(None)
    assert pool.stats().idle == 2
    clock.leap(100.0)
    pool._tidy(None)
    assert pool.stats().discards == {"lifetime": 2}
    assert conn.closes == other.closes == 1


def test_the_time_asleep_counts_for_idleness(make, clock, asleep):
    pool = make(maxconn=3, idle_timeout=600.0)
    idle(pool, 2)
    asleep.append(599.0)
    pool._tidy(None)
    assert pool.stats().idle == 2
    clock.leap(1.0)
    pool._tidy(None)
    assert pool.stats().discards == {"idle": 2}


def test_one_that_was_drained_stays_drained_whatever_the_sleep(make, asleep):
    pool = make(maxconn=2)
    conn = pool.getconn()
    pool.drain()
    asleep.append(300.0)
    pool._tidy(None)
    pool.putconn(conn)
    assert pool.stats().discards == {"drained": 1}


def test_a_difference_between_two_clocks_is_no_sleep(make, clock, asleep):
    pool = make(maxconn=2, check_after=1.0, ping_after=3600.0)
    (conn,) = idle(pool, 1)
    asleep.append(0.5)
    clock.leap(1.0)
    pool.putconn(pool.getconn())
    assert conn.pings == 0


def test_a_sleep_is_noticed_once(make, clock, asleep):
    pool = make(maxconn=2, check_after=1.0, ping_after=3600.0)
    (conn,) = idle(pool, 1)
    asleep.append(300.0)
    for _ in range(3):
        clock.leap(1.0)
        pool.putconn(pool.getconn())
    assert conn.pings == 1


def test_a_sleep_that_two_notice_at_once_is_counted_once(make, asleep):
    pool = make(maxconn=2)
    before, real = pool._slept, pool._lock
    asleep.append(300.0)

    class Lock:
        """Another caller comes first."""

        def __enter__(self):
            pool._lock = real
            pool._notice_sleep()
            real.__enter__()

        def __exit__(self, *exc):
            real.__exit__(*exc)

    pool._lock = Lock()
    pool._notice_sleep()
    assert pool._slept == before + 300.0
