"""How closely a connection is looked at before it is handed out, when it comes back, and when it is new."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fakes import OperationalError

from dbpool import Connector, PoolClosed, PoolExhausted, ThreadedConnectionPool

from .checks import adds_up, lease_all
from .sockets import Line, LineConnector
from .threads import Caller, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def never_sleeps(monkeypatch):
    """Nobody in the pool may go to sleep."""

    def sleep(*args):
        raise AssertionError("it sleeps")

    monkeypatch.setattr("dbpool.pool.ThreadWaiter.sleep", sleep)
    monkeypatch.setattr("time.sleep", sleep)


@pytest.fixture
def connector():
    yield from LineConnector().ended()


def idle(pool):
    """Have one connection that has just been put back."""
    conn = pool.getconn()
    pool.putconn(conn)
    conn.pings = 0
    return conn


# ---- ping_after --------------------------------------------------------------------------------------------


def test_a_fresh_one_is_handed_out_without_a_question(make, kind, clock, never_sleeps):
    pool = make(kind, background=False, ping_after=60.0, check_after=None)
    conn = idle(pool)
    clock.leap(59.0)
    assert pool.getconn() is conn
    assert conn.pings == 0


def test_one_unused_for_long_is_asked_once(make, kind, clock, never_sleeps):
    pool = make(kind, background=False, ping_after=60.0)
    conn = idle(pool)
    clock.leap(60.0)
    assert pool.getconn() is conn
    assert conn.pings == 1
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert conn.pings == 1, "asked again at once"


def test_the_time_that_counts_is_that_since_its_last_use(make, kind, clock):
    pool = make(kind, ping_after=60.0, check_after=None)
    conn = idle(pool)
    for _ in range(10):
        clock.leap(59.0)
        pool.putconn(pool.getconn())
    assert conn.pings == 0
    clock.leap(60.0)
    pool.putconn(pool.getconn())
    assert conn.pings == 1


def test_zero_asks_always(make, kind):
    pool = make(kind, ping_after=0)
    conn = idle(pool)
    for _ in range(3):
        pool.putconn(pool.getconn())
    assert conn.pings == 3


def test_none_asks_never(make, kind, clock):
    pool = make(kind, ping_after=None, max_lifetime=None, idle_timeout=None)
    conn = idle(pool)
    clock.leap(10**6)
    assert pool.getconn() is conn
    assert conn.pings == 0


def test_a_dead_one_is_replaced_without_a_sleep(make, kind, clock, driver, never_sleeps):
    pool = make(kind, 1, 1, ping_after=60.0, background=False)
    driver.made[0].mute = True
    clock.leap(60.0)
    conn = pool.getconn()
    assert conn.number == 2
    assert (driver.made[0].closes, pool.stats().discards) == (1, {"lost": 1})
    pool.putconn(conn)
    assert adds_up(pool)


@pytest.mark.parametrize("left", ["closed", "in a transaction"])
def test_a_ping_that_leaves_it_unfit_is_no_good(make, kind, clock, left):
    pool = make(kind, 0, 1, ping_after=60.0)
    pool.putconn(pool.getconn())
    conn = idle(pool)
    conn.ping = conn.close if left == "closed" else conn.execute
    clock.leap(60.0)
    assert pool.getconn().number == 2
    assert pool.stats().discards == {"lost": 1}


def test_an_interrupt_in_the_midst_of_a_ping_loses_no_slot(make, kind, clock, driver):
    pool = make(kind, 1, 1, ping_after=60.0)

    def interrupted():
        raise KeyboardInterrupt

    driver.made[0].ping = interrupted
    clock.leap(60.0)
    with pytest.raises(KeyboardInterrupt):
        pool.getconn()
    lease_all(pool)
    assert adds_up(pool)


@pytest.mark.parametrize("limit", [0, 0.3])
def test_a_server_that_lets_everybody_in_but_answers_nobody_is_not_stormed(make, kind, driver, limit):
    """As a proxy does whose database is down."""
    pool = make(kind, 0, 1, ping_after=0, timeout=limit)
    driver.fail_on = {30}  # else it might go on for ever
    real = driver.connect

    def connect():
        conn = real()
        conn.mute = True
        return conn

    pool._opener.connector._connect = connect
    if limit:
        with suppress(PoolExhausted):  # one that comes in the very last moment is taken unseen
            pool.putconn(pool.getconn())
    else:
        with pytest.raises(PoolExhausted) as caught:
            pool.getconn()
        assert "server does not answer" in str(caught.value.__cause__)
    assert driver.calls < 30
    assert adds_up(pool)


def test_who_waited_is_given_one_that_was_asked(make, clock, driver):
    pool = make(maxconn=1, ping_after=60.0, timeout=1000)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(61.0)
    conn.mute = True
    pool.putconn(conn)
    assert caller.result().number == 2
    assert pool.stats().discards == {"lost": 1}


def test_who_was_given_a_dead_one_is_still_before_all_who_came_later(make, clock, driver):
    pool = make(maxconn=1, ping_after=60.0, timeout=10_000)
    served, conn = [], pool.getconn()
    driver.gate.clear()

    def get(number):
        got = pool.getconn()
        served.append(number)
        pool.putconn(got)

    callers = []
    for number in range(3):
        callers.append(Caller(get, number))
        eventually(lambda number=number: pool.stats().waiting == number + 1)
    clock.leap(61.0)
    conn.mute = True
    pool.putconn(conn)
    eventually(lambda: pool.stats().discards)
    driver.gate.set()
    for caller in callers:
        caller.result()
    assert served == [0, 1, 2]


@pytest.mark.synchronous
@pytest.mark.parametrize("when", ["before the look", "during it"])
def test_a_pool_that_is_closed_at_the_look_hands_out_nothing_that_is_open(make, clock, when):
    pool = make(maxconn=1, ping_after=60.0)
    conn = idle(pool)
    clock.leap(60.0)
    if when == "during it":
        conn.ping = pool.closeall
        with pytest.raises(PoolClosed):
            pool.getconn()
    else:
        real = pool._line_up
        pool._line_up = lambda waiter: (real(waiter), pool.closeall())[0]
        assert pool.getconn().closed, "as for a hit, it was closed just after it was handed out"
    assert conn.closes == 1
    assert pool.stats().size == 0


# ---- check_after: the operating system is asked ------------------------------------------------------------


def line_pool(connector, kind=ThreadedConnectionPool, **options):
    return kind(0, 1, connect=connector, config={"detect_deadlock": False, "background": False, **options})


def test_one_that_the_server_has_closed_is_replaced(connector, kind):
    with line_pool(connector, kind, check_after=0) as pool:
        conn = idle(pool)
        conn.peer.close()
        again = pool.getconn()
        assert again is not conn
        assert conn.closes == 1
        pool.putconn(again)


@pytest.mark.parametrize("check_after", [None, 60.0])
def test_it_is_not_looked_at_before_its_time(connector, clock, check_after):
    with line_pool(connector, check_after=check_after) as pool:
        conn = idle(pool)
        conn.peer.close()
        clock.leap(59.0)
        assert pool.getconn() is conn
        pool.putconn(conn)


def test_one_to_which_the_server_said_something_is_asked(connector):
    with line_pool(connector, check_after=0) as pool:
        conn = idle(pool)
        conn.peer.send(b"!")  # taken for the answer, by our ping
        assert pool.getconn() is conn
        conn.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            conn.socket.recv(1)
        pool.putconn(conn)


def test_one_to_which_nothing_was_said_is_not_asked(connector):
    with line_pool(connector, check_after=0) as pool:
        conn = idle(pool)
        assert pool.getconn() is conn  # else it would wait for an answer
        pool.putconn(conn)


def test_what_has_no_descriptor_is_taken_on_trust(make, kind):
    pool = make(kind, check_after=0, ping_after=None)
    conn = idle(pool)
    assert pool.getconn() is conn
    assert conn.pings == 0


def test_the_end_is_noticed_also_where_there_is_no_ping():
    lines = []

    def connect():
        lines.append(Line())
        return lines[-1]

    pool = line_pool(Connector(connect), check_after=0)
    conn = idle(pool)
    conn.peer.close()
    again = pool.getconn()
    pool.putconn(again)
    pool.close()
    for line in lines:
        line.end()
    assert again is not conn


# ---- at other times ----------------------------------------------------------------------------------------


def test_ping_on_return_keeps_those_that_answer_and_closes_the_others(make, kind, driver):
    pool = make(kind, ping_on_return=True)
    conn = idle(pool)
    assert pool.getconn() is conn
    pool.putconn(conn)
    assert conn.pings == 1
    conn = pool.getconn()
    conn.mute = True
    pool.putconn(conn)
    assert conn.closes == 1
    assert pool.stats().discards == {"reset failed": 1}


def test_without_it_nobody_is_asked_on_return(make, kind):
    pool = make(kind)
    conn = idle(pool)
    pool.putconn(pool.getconn())
    assert conn.pings == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_ping_on_connect_asks_a_new_one(make, kind, wanted):
    assert make(kind, ping_on_connect=wanted).getconn().pings == wanted


def test_a_new_one_that_does_not_answer_is_a_failed_connect(make, kind, driver):
    pool = make(kind, ping_on_connect=True)
    real = driver.connect

    def connect():
        conn = real()
        conn.mute = driver.calls == 1
        return conn

    pool._opener.connector._connect = connect
    with pytest.raises(OperationalError, match="does not answer"):
        pool.getconn()
    assert driver.made[0].closes == 1
    assert pool.getconn().number == 2


def test_ping_interval_asks_those_unheard_of_for_so_long(make, clock):
    pool = make(maxconn=2, ping_interval=60.0, check_after=None)
    conn = idle(pool)
    for seconds, pings in ((59.0, 0), (1.0, 1), (59.0, 1), (1.0, 2)):
        clock.leap(seconds)
        pool._sweep()
        assert conn.pings == pings
    assert pool.getconn() is conn


def test_ping_interval_leaves_leased_ones_alone(make, clock):
    pool = make(ping_interval=60.0)
    conn = pool.getconn()
    clock.leap(61.0)
    pool._sweep()
    assert conn.pings == 0
    pool.putconn(conn)


def test_a_dead_one_that_is_pinged_in_the_background_is_closed_and_replaced(make, clock, driver):
    pool = make(minconn=2, maxconn=2, ping_interval=60.0)
    dead = driver.made[0]
    dead.mute = True
    clock.leap(61.0)
    pool._sweep()
    assert dead.closes == 1
    eventually(lambda: pool.stats().idle == 2)
    assert pool.stats().discards == {"lost": 1}


def test_an_interrupted_ping_in_the_background_loses_no_slot(make, clock, driver):
    pool = make(minconn=1, maxconn=1)

    def interrupted():
        raise SystemExit

    driver.made[0].ping = interrupted
    with pytest.raises(SystemExit):
        pool.check()
    assert pool.stats().discards == {"interrupted": 1}
    lease_all(pool)


def test_check_asks_every_idle_one(make, kind, driver):
    pool = make(kind, 2, 3)
    leased = pool.getconn()
    driver.made[0].mute = driver.made[1].mute = True
    stats = pool.check()
    assert stats.discards == {"lost": 1}
    assert leased.pings == 0
    assert (stats.idle, stats.used) == (1, 1)
    pool.putconn(leased)
