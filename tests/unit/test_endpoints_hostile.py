"""EndpointPool against what would break it: hung endpoints, what is dropped, odd endpoints, passwords, closed loops."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError

from dbpool import (
    AsyncConnectionPool,
    EndpointPool,
    Limiter,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    fork,
)
from dbpool.state import PoolState, Todo

from .places import touch
from .threads import Caller, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


# ---- the total: nobody is stranded -----------------------------------------------------------------------------


def test_one_that_was_looked_for_while_it_was_being_opened_is_found_later(many, places):
    """It is not idle then, and who looks for the least used must not forget it for good."""
    pool = many(total=2, idle_timeout=None)
    held = pool.getconn("b")
    places.hang("a")
    caller = Caller(pool.getconn, "a")
    eventually(lambda: places.hangs("a"))
    for timeout in (0, 0.01):
        with pytest.raises(PoolExhausted):
            pool.getconn("c", timeout=timeout)
    places.release("a")
    pool.putconn(caller.result())
    conn = pool.getconn("d", timeout=0)
    pool.putconn(conn)
    pool.putconn(held)


def test_an_endpoint_that_hangs_does_not_keep_its_slot_for_ever(many, places, heartbeat):
    """Its caller has left: so nobody thinks of it but those who want the slot."""
    places.hang("hung")
    pool = many(total=1, connect_timeout=0.2)
    with pytest.raises(PoolTimeout):
        pool.getconn("hung", timeout=0.01)
    pool.putconn(pool.getconn("other", timeout=8))
    assert pool.total.used == 1


def test_while_one_hangs_the_others_go_on(many, places):
    places.hang("hung")
    pool = many(total=2, timeout=30)
    caller = Caller(pool.getconn, "hung")
    eventually(lambda: places.hangs("hung"))
    for endpoint in "abcabc":
        touch(pool, endpoint)
    places.release("hung")
    pool.putconn(caller.result())


def test_what_was_dropped_at_one_endpoint_serves_who_waits_at_another(many, places, heartbeat):
    places.keep = False
    pool = many(total=1)

    def drop():
        pool.getconn("a")

    def drop_and_get():
        Caller(drop).result()
        gc.collect()
        return pool.getconn("b", timeout=8)

    with pytest.warns(ResourceWarning, match="dropped"):
        conn = drop_and_get()
    pool.putconn(conn)


def test_a_storm_of_failing_connects_costs_no_slot(many, places, heartbeat):
    places.down = {0, 1, 2}
    pool = many(total=2, timeout=30)

    def work(seed):
        for number in range(30):
            endpoint = (seed + number) % 5
            try:
                touch(pool, endpoint)
            except OperationalError:
                assert endpoint in places.down
            else:
                assert endpoint not in places.down

    for caller in [Caller(work, seed) for seed in range(8)]:
        caller.result(60)
    eventually(lambda: set(pool.endpoints) <= {3, 4})
    assert pool.total.used <= 2
    places.down.clear()
    held = [pool.getconn(number, timeout=8) for number in range(2)]
    for conn in held:
        pool.putconn(conn)


def test_who_looks_at_an_endpoint_that_is_forgotten_just_then_looks_no_further(many):
    """It leaves the limiter between two lines of another thread's."""
    pool = many(total=2)
    touch(pool, "a")
    member = getattr(pool, "_shell", pool)._pools["a"]
    limiter, looks = member._state.limiter, []

    class Vanishing(PoolState):
        @property
        def limiter(self):
            looks.append(1)
            return None if len(looks) > 1 else limiter

        @limiter.setter
        def limiter(self, value):
            pass

    member._state.__class__ = Vanishing
    try:
        member._do(Todo())
    finally:
        member._state.__class__ = PoolState
    assert looks


# ---- what is kept ----------------------------------------------------------------------------------------------


def test_of_endpoints_that_come_and_go_nothing_is_kept(many, places):
    """Although the total is never reached, so nobody looks for the least used."""
    places.keep = False
    pool = many(total=1000)
    for number in range(300):
        pool.putconn(pool.getconn(number), close=True)
    eventually(lambda: pool.endpoints == [])
    total = pool.total
    for kept in (total._known, total._members, total._sizes, total._wishing):
        assert not kept
    for kept in (total._ages, total._ranked, pool._owners):
        assert len(kept) <= 64


def test_a_limiter_keeps_nothing_of_pools_that_are_dropped(waiting_kind):
    limiter = Limiter(1000)

    def work():
        pool = waiting_kind(0, 1, connect=FakeConnector(lambda: FakeConnection(1)), config={"limiter": limiter})
        pool.putconn(pool.getconn())
        return pool

    for _ in range(200):
        work().close()
        gc.collect(0)
    gc.collect()
    pool = work()
    assert limiter.used == 1
    assert len(limiter._sizes) == len(limiter._members) == 1
    assert len(limiter._ages) <= 128
    pool.close()


def test_one_that_has_died_is_not_taken_for_another_at_its_address(many):
    """The endpoint of the dead one has not noticed yet, and is asked first."""
    pool = many()
    old, conn = pool.getconn("a"), pool.getconn("b")
    shell = getattr(pool, "_shell", pool)
    shell._pools["a"]._entries[id(conn)] = shell._pools["a"]._entries[id(old)]
    shell._owners.clear()
    try:
        pool.putconn(conn)
    finally:
        del shell._pools["a"]._entries[id(conn)]
    assert pool.stats()["b"].idle == 1
    pool.putconn(old)


# ---- odd endpoints ---------------------------------------------------------------------------------------------


class Mute:
    """Has no repr."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Same:
    """Equal to all of its kind."""

    def __eq__(self, other):
        return isinstance(other, Same)

    def __hash__(self):
        return 1


def test_an_endpoint_whose_repr_fails_serves_all_the_same(many):
    pool, endpoint = many(maxconn=1), Mute()
    conn = pool.getconn(endpoint)
    with pytest.raises(PoolExhausted, match="<Mute>"):
        pool.getconn(endpoint, timeout=0)
    assert "1 endpoints" in repr(pool)
    pool.putconn(conn)
    assert pool.endpoints == [endpoint]


def test_endpoints_that_are_equal_are_one(many, places):
    pool = many()
    for endpoint in (Same(), Same(), 1, 1.0, True):
        touch(pool, endpoint)
    assert len(pool.endpoints) == places.calls == 2


def test_one_that_is_not_equal_to_itself_is_the_same_only_as_the_same_object(many, places):
    pool, odd = many(total=3), float("nan")
    touch(pool, odd, odd)
    assert places.calls == 1
    touch(pool, *[float("nan") for _ in range(20)])
    eventually(lambda: len(pool.endpoints) <= 3)


class Refusing(Exception):
    pass


def test_what_an_endpoint_raises_when_it_is_compared_is_the_callers(many):
    class Odd:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise Refusing

    pool = many()
    touch(pool, 1)
    with pytest.raises(Refusing):
        pool.getconn(Odd())
    touch(pool, 1)


def test_a_wrong_timeout_makes_no_endpoint_known(many):
    pool = many()
    for call in (pool.getconn, pool.connect):
        with pytest.raises(TypeError, match="timeout must be"):
            call("a", timeout="soon")
    assert pool.endpoints == []


# ---- passwords -------------------------------------------------------------------------------------------------

SECRET = "hunter22"
DSNS = [
    f"host=db password={SECRET}",
    f"host=db password='{SECRET} and more' options=\"-c a=b\"",
    f"postgresql://user:{SECRET}@db/one",
    ("db", f"dbname=one password={SECRET}"),
    frozenset({f"password={SECRET}"}),
]


@pytest.mark.parametrize("dsn", DSNS, ids=["words", "quoted", "uri", "in a tuple", "in a set"])
def test_a_password_in_an_endpoint_is_in_nothing_that_is_shown(many, places, caplog, dsn):
    caplog.set_level(logging.DEBUG, "dbpool")
    pool = many(maxconn=1, timeout=60)
    held = pool.getconn(dsn)
    caller = Caller(pool.getconn, dsn)
    eventually(pool.waiters)
    shown = [repr(pool), repr(pool.total), *map(repr, [*pool.stats().values(), *pool.holders().values()])]
    shown += map(repr, pool.waiters().values())
    for call in (
        lambda: pool.getconn(dsn, timeout=0),
        lambda: pool.putconn(FakeConnection(0)),
        lambda: many(endpoints={"a": "b"}).getconn(dsn),
    ):
        with pytest.raises((PoolError, ValueError)) as caught:
            call()
        shown.append(str(caught.value))
    pool.putconn(held, close=True)
    pool.putconn(caller.result(), close=True)
    assert SECRET not in "\n".join([*shown, caplog.text])


def test_nor_in_the_error_of_a_connect_that_echoes_it(many, places, caplog):
    caplog.set_level(logging.DEBUG, "dbpool")
    dsn = DSNS[0]
    places.down = {dsn}
    with pytest.raises(OperationalError) as caught:
        many().getconn(dsn)
    assert SECRET not in str(caught.value) + caplog.text


# ---- sweeps, forks, closed loops -------------------------------------------------------------------------------


@pytest.mark.synchronous
@pytest.mark.parametrize("ping_interval", [None, 10])
def test_a_sweep_that_fails_at_one_endpoint_is_nothing_to_the_others(many, ping_interval, clock, caplog):
    pool = many(idle_timeout=10, ping_interval=ping_interval)
    touch(pool, "a", "b")

    def fail():
        raise MemoryError

    pool._pools["a"]._sweep = fail
    clock.leap(11)
    pool._sweep()
    assert pool.endpoints == ["a"]
    assert "the sweep failed" in caplog.text


def test_a_child_process_begins_with_no_endpoint(many):
    """Called here in the parent. Its lock may have been held by a thread that the child does not have."""
    pool = many(total=2)
    touch(pool, "a")
    shell = getattr(pool, "_shell", pool)
    assert shell in fork._all()
    member = shell._pools["a"]
    Caller(shell._lock.acquire).result()
    shell.total._renew_after_fork()
    shell._renew_after_fork()
    member._renew_after_fork()
    assert (pool.endpoints, pool.total.used) == ([], 0)
    assert Caller(pool.getconn, "a").result().endpoint == "a"


@pytest.fixture
def abandoned():
    """Makes a pool, and closes the loop in which it has been used."""

    def abandoned(limiter, work):
        pool = AsyncConnectionPool(0, 2, connect=FakeConnector(lambda: FakeConnection(1)), config={"limiter": limiter})
        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(work(pool))
        loop.close()
        return pool, left

    return abandoned


@pytest.mark.synchronous
def test_what_lies_idle_in_a_pool_whose_loop_was_closed_makes_room(abandoned, endpoints_kind):
    async def work(pool):
        await pool.putconn(await pool.getconn())

    limiter = Limiter(1)
    old, _ = abandoned(limiter, work)
    pool = EndpointPool(0, 1, connect=FakeConnector(FakeConnection), total=limiter, config={"detect_deadlock": False})
    pool.putconn(pool.getconn(2, timeout=0))
    pool.close()
    assert old.stats().size == 0
    asyncio.run(work(old))


@pytest.mark.synchronous
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_waits_for_those_who_waited_in_a_loop_that_was_closed(abandoned, endpoints_kind):
    limiter = Limiter(1)
    pool = EndpointPool(0, 1, connect=FakeConnector(FakeConnection), total=limiter, config={"detect_deadlock": False})
    held = pool.getconn(1)

    async def work(old):
        task = asyncio.ensure_future(old.getconn(timeout=60))
        while not old.waiters():  # noqa: ASYNC110
            await asyncio.sleep(0)
        return task

    _, task = abandoned(limiter, work)
    pool.putconn(held, close=True)
    pool.putconn(pool.getconn(2, timeout=0))
    pool.close()
    task._log_destroy_pending = False


@pytest.mark.synchronous
def test_a_pool_that_is_dropped_gives_its_part_of_the_total_back(endpoints_kind):
    """Whoever waits there keeps it, and is served."""
    limiter = Limiter(1)

    def make():
        options = {"detect_deadlock": False, "timeout": 60}
        return EndpointPool(0, 1, connect=FakeConnector(FakeConnection), total=limiter, config=options)

    pool = make()
    held, known = pool.getconn(1), threading.Event()
    caller = Caller(lambda other: (known.set(), other.getconn(2).number)[1], make())
    eventually(limiter.in_line)
    pool.putconn(held)
    assert caller.result() == 2
    caller = pool = held = None
    gc.collect()
    last = make()
    last.putconn(last.getconn(3, timeout=0))
    last.close()
