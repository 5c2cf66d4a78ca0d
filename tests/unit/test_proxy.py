"""connect(): a proxy that gives its connection back: once, exactly, and by itself when it is dropped."""

from __future__ import annotations

import copy
import pickle
import weakref
from contextlib import closing

import pytest
from fakes import Error, FakeConnection, FakeConnector, OperationalError, Recorder

from dbpool import PoolClosed, PoolError, PoolExhausted, SimpleConnectionPool
from dbpool.proxy import CLOSED, ConnectionProxy

from . import dbapi
from .checks import lease_all, unchanged
from .threads import Caller, eventually

pytestmark = pytest.mark.synchronous


@pytest.fixture(params=[None, "a"], ids=["unkeyed", "keyed"])
def key(request):
    """Without a key, and with one."""
    return request.param


class Cursor:
    """Refers to its connection, as a driver's does."""

    def __init__(self, connection):
        self.connection = connection


class Connection(FakeConnection):
    """One that has cursors, and a `with` that notes how it was used."""

    def __enter__(self):
        self.blocks = ["enter"]
        return self

    def __exit__(self, kind, error, trace):
        self.blocks.append(kind)
        return kind is KeyError

    def cursor(self, *args, **kwargs):
        self.asked = args, kwargs
        return Cursor(self)

    def execute(self, statement=None):
        super().execute()
        return Cursor(self)


@pytest.fixture
def cursors(kind):
    """A pool of two connections that have cursors."""
    numbers = iter(range(1, 10))
    with kind(0, 2, connect=FakeConnector(lambda: Connection(next(numbers)))) as pool:
        yield pool


# ---- closing ---------------------------------------------------------------------------------------------------------


def test_close_gives_the_connection_back(make, kind, driver, key):
    pool = make(kind)
    proxy = pool.connect(key)
    [conn] = driver.made
    assert proxy.raw is conn
    assert pool.stats().used == 1
    proxy.close()
    assert (pool.stats().used, pool.stats().idle, conn.closes) == (0, 1, 0)
    assert pool.getconn() is conn
    pool.putconn(conn)
    lease_all(pool)


def test_close_rolls_back_what_is_not_committed(make, kind, driver, key):
    pool = make(kind)
    proxy = pool.connect(key)
    proxy.execute()
    proxy.close()
    assert (driver.made[0].commits, driver.made[0].rollbacks) == (0, 1)


def test_close_may_be_called_again(make, kind, driver, key):
    pool = make(kind)
    proxy = pool.connect(key)
    proxy.close()
    with unchanged(pool, driver):
        proxy.close()
        proxy.invalidate()
    assert pool.stats().leases == 1


USES = {
    "cursor": lambda proxy: proxy.cursor(),
    "commit": lambda proxy: proxy.commit(),
    "rollback": lambda proxy: proxy.rollback(),
    "execute": lambda proxy: proxy.execute(),
    "an attribute": lambda proxy: proxy.color,
    "setting one": lambda proxy: setattr(proxy, "color", "red"),
    "deleting one": lambda proxy: delattr(proxy, "color"),
    "raw": lambda proxy: proxy.raw,
    "with": lambda proxy: proxy.__enter__(),
    "the end of with": lambda proxy: proxy.__exit__(None, None, None),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_other_use_after_close_is_refused(make, kind, driver, key, use):
    pool = make(kind)
    proxy = pool.connect(key)
    proxy.close()
    with unchanged(pool, driver), pytest.raises(PoolError, match=CLOSED) as caught:
        use(proxy)
    assert isinstance(caught.value, Error), "it is the driver's error too"
    assert driver.made[0].color == "white"


def test_closed_tells(make, kind, key):
    pool = make(kind)
    proxy = pool.connect(key)
    assert not proxy.closed
    proxy.raw.close()
    assert proxy.closed, "as the driver says"
    proxy.close()
    assert proxy.closed is True
    lease_all(pool)


def test_a_driver_that_does_not_say_whether_it_is_closed(kind):
    with kind(0, 1, connect=dbapi) as pool:
        proxy = pool.connect()
        assert proxy.closed is False
        proxy.close()
        assert proxy.closed is True


def test_a_late_close_leaves_the_next_holder_alone(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    pool.putconn(proxy.raw)
    other = pool.connect(key)
    with unchanged(pool, driver):
        proxy.close()
    assert not other.closed
    other.close()
    lease_all(pool)


@pytest.mark.parametrize("how", ["close", "invalidate", "drop"])
def test_a_proxy_whose_connection_was_put_back_raw_ends_nothing(make, kind, driver, key, how):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    pool.putconn(proxy.raw)
    with unchanged(pool, driver):
        if how == "drop":
            del proxy
        else:
            getattr(proxy, how)()
    lease_all(pool)


def test_the_pool_refuses_to_take_the_proxy_itself(make, kind, driver, key):
    pool = make(kind)
    proxy = pool.connect(key)
    with unchanged(pool, driver), pytest.raises(PoolError):
        pool.putconn(proxy)
    proxy.close()


def test_close_hands_over_to_who_waits(make, key):
    pool = make(maxconn=1)
    proxy = pool.connect(key)
    caller = Caller(pool.connect)
    eventually(lambda: pool.stats().waiting)
    raw = proxy.raw
    proxy.close()
    assert caller.result().raw is raw


def test_connect_waits_and_fails_as_getconn_does(make, kind, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect("b")
    with pytest.raises(PoolExhausted, match="exhausted"):
        pool.connect(key, timeout=0)
    with pytest.raises(ValueError, match="timeout"):
        pool.connect(key, timeout=-1)
    proxy.close()


def test_a_connect_that_fails_is_the_drivers_error(make, kind, driver, key):
    driver.fail_on.add(1)
    pool = make(kind)
    with pytest.raises(OperationalError, match="refused"):
        pool.connect(key)
    lease_all(pool)


@pytest.mark.parametrize("name", ["closeall", "close"])
def test_a_closed_pool_refuses(make, kind, key, name):
    pool = make(kind)
    getattr(pool, name)()
    with pytest.raises(PoolClosed):
        pool.connect(key)


@pytest.mark.parametrize("how", ["close", "invalidate", "drop"])
def test_closeall_under_a_proxy_is_the_drivers_error_in_use_and_none_at_the_end(make, kind, driver, key, how):
    pool = make(kind)
    proxy = pool.connect(key)
    pool.closeall()
    with pytest.raises(OperationalError):
        proxy.execute()
    assert proxy.closed
    if how == "drop":
        del proxy
    else:
        getattr(proxy, how)()
    assert (driver.made[0].closes, pool.stats().size) == (1, 0)


def test_a_drain_lets_the_proxy_go_on_and_then_closes(make, kind, driver, key):
    pool = make(kind)
    proxy = pool.connect(key)
    pool.drain()
    proxy.execute()
    proxy.commit()
    proxy.close()
    assert (driver.made[0].commits, driver.made[0].closes) == (1, 1)
    lease_all(pool)


def test_invalidate_closes_the_connection_and_frees_the_slot(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    proxy.invalidate()
    assert (driver.made[0].closed, pool.stats().size) == (True, 0)
    with pytest.raises(PoolError, match="closed"):
        proxy.cursor()
    lease_all(pool)


def test_a_connection_that_died_in_use_frees_its_slot_at_close(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    proxy.execute()
    driver.made[0].fail_rollback = True
    proxy.close()
    assert driver.made[0].closed
    lease_all(pool)


def test_what_a_listener_hears_is_a_lease(make, kind, driver, key):
    recorder = Recorder()
    pool = make(kind, 1, listener=recorder)
    recorder.events.clear()
    pool.connect(key).close()
    assert recorder.names == ["acquired", "released"]
    assert recorder.events[0][1] is driver.made[0]


def test_getconn_and_putconn_that_a_subclass_overrides_are_used(driver):
    seen = []

    class Pool(SimpleConnectionPool):
        def getconn(self, *args, **kwargs):
            seen.append("get")
            return super().getconn(*args, **kwargs)

        def putconn(self, *args, **kwargs):
            seen.append("put")
            super().putconn(*args, **kwargs)

    with Pool(0, 1, connect=FakeConnector(driver.connect)) as pool:
        pool.connect().close()
    assert seen == ["get", "put"]


# ---- what it is ------------------------------------------------------------------------------------------------------


def test_attributes_are_the_connections(make, kind, driver, key):
    pool = make(kind)
    with closing(pool.connect(key)) as proxy:
        [conn] = driver.made
        proxy.color = "red"
        proxy.note = "mine"
        assert (proxy.color, conn.color, conn.note) == ("red", "red", "mine")
        del proxy.note
        assert not hasattr(conn, "note")
        assert not hasattr(proxy, "note")
        with pytest.raises(AttributeError, match="nothing"):
            proxy.nothing  # noqa: B018
        assert {"color", "cursor", "invalidate", "number"} <= set(dir(proxy))
    assert conn.color == "white", "the pool restores it"
    assert "color" not in dir(proxy)


def test_methods_are_the_connections(cursors):
    with closing(cursors.connect()) as proxy:
        cursor = proxy.cursor("name", scrollable=True)
        assert type(cursor) is Cursor
        assert cursor.connection is proxy.raw is proxy.dbapi_connection
        assert proxy.asked == (("name",), {"scrollable": True})
        assert proxy.execute("statement").connection is proxy.raw
        proxy.commit()
        proxy.execute("statement")
        proxy.rollback()
        assert (proxy.commits, proxy.rollbacks) == (1, 1)


def test_it_does_not_lie_about_what_it_is(make, kind):
    with closing(make(kind).connect()) as proxy:
        assert type(proxy) is proxy.__class__ is ConnectionProxy
        assert not isinstance(proxy, FakeConnection)


def test_it_can_be_weakly_referenced_and_hashed(make, kind, key):
    pool = make(kind)
    proxy = pool.connect(key)
    assert weakref.ref(proxy)() is proxy
    assert {proxy: 1}[proxy] == 1
    proxy.close()


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("closed", [False, True])
def test_it_cannot_be_pickled_or_copied(make, kind, key, how, closed):
    proxy = make(kind).connect(key)
    if closed:
        proxy.close()
    with pytest.raises((TypeError, PoolError), match=r"cannot copy or pickle|is closed"):
        how(proxy)
    proxy.close()


def test_repr_shows_the_pool_and_the_kind_and_no_secret(driver, kind, key):
    class Talkative(FakeConnection):
        def __repr__(self):
            return "password=hunter2"

    pool = kind(0, 1, "password=hunter2", connect=FakeConnector(lambda _: Talkative(1)), config={"name": "main"})
    proxy = pool.connect(key)
    assert "'main'" in repr(proxy)
    assert "Talkative" in repr(proxy)
    proxy.close()
    assert repr(proxy).endswith("of pool 'main': closed>")
    assert "hunter2" not in repr(proxy) + str(proxy)
    pool.close()


# ---- with ------------------------------------------------------------------------------------------------------------


def test_with_means_what_the_driver_means(cursors):
    proxy = cursors.connect()
    with proxy as inside:
        assert inside is proxy
    assert proxy.blocks == ["enter", None]
    assert not proxy.closed, "with is not close"
    with proxy:
        raise KeyError
    with pytest.raises(ZeroDivisionError), proxy:
        raise ZeroDivisionError
    assert proxy.blocks == ["enter", ZeroDivisionError]
    proxy.close()


def test_a_driver_without_with_is_committed_or_rolled_back(make, kind, driver, key):
    proxy = make(kind).connect(key)
    with proxy:
        proxy.execute()
    assert (proxy.commits, proxy.rollbacks) == (1, 0)
    with pytest.raises(ZeroDivisionError), proxy:
        raise ZeroDivisionError
    assert (proxy.commits, proxy.rollbacks) == (1, 1)
    proxy.close()


def test_a_proxy_closed_within_its_block_does_not_hide_the_users_error(make, kind, key):
    pool = make(kind)

    def run(error):
        with pool.connect(key) as proxy:
            proxy.close()
            if error:
                raise error

    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError)
    with pytest.raises(PoolError, match=CLOSED):
        run(None)
    lease_all(pool)
