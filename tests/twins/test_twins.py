"""The twins' own tests: install() and uninstall(), what they take beside psycopg2's arguments, and their guts."""

from __future__ import annotations

import importlib
import pickle

import pytest
from drivers.conftest import name_socket_for_kingbase
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

import dbpool
from dbpool import PoolConfig, PoolListener

from .processes import python
from .subjects import execute

NAMES = ("AbstractConnectionPool", "SimpleConnectionPool", "ThreadedConnectionPool", "PersistentConnectionPool")


@pytest.fixture(params=["psycopg2", "ksycopg2"])
def driver(request):
    return import_or_skip(request.param)


@pytest.fixture
def twin(driver):
    """The twin of the driver's pool module."""
    return importlib.import_module(f"dbpool.{driver.__name__}")


@pytest.fixture
def replaced(driver, twin):
    """The driver's pool module, which is as before at the end."""
    yield importlib.import_module(f"{driver.__name__}.pool")
    twin.uninstall()


@pytest.fixture
def dsn(driver, server):
    if driver.__name__ == "ksycopg2":
        name_socket_for_kingbase(server.dsn)
    return server.dsn


# ---- install() and uninstall() --------------------------------------------------------------------------------------


def test_install_replaces_the_classes_and_uninstall_restores_them(twin, replaced):
    before = dict(vars(replaced))
    twin.install()
    assert all(getattr(replaced, name) is getattr(twin, name) for name in NAMES)
    assert replaced.PoolError is before["PoolError"]
    twin.uninstall()
    assert dict(vars(replaced)) == before


def test_both_can_be_repeated(twin, replaced):
    before = dict(vars(replaced))
    twin.uninstall()
    twin.install()
    twin.install()
    assert replaced.SimpleConnectionPool is twin.SimpleConnectionPool
    twin.uninstall()
    twin.uninstall()
    assert dict(vars(replaced)) == before


def test_errors_are_caught_by_the_names_from_before(driver, twin, replaced):
    from_before = replaced.PoolError
    twin.install()
    with pytest.raises(from_before) as caught:
        replaced.SimpleConnectionPool(0, 1).putconn(None)
    assert isinstance(caught.value, (twin.PoolError, dbpool.PoolError, driver.Error))
    assert issubclass(twin.PoolError, (from_before, driver.Error))
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)


@pytest.mark.parametrize(
    "config", [{"timeout": 3}, PoolConfig(timeout=3, reset="rollback")], ids=["mapping", "PoolConfig"]
)
def test_its_config_is_that_of_pools_made_from_then_on(twin, replaced, config):
    earlier = twin.SimpleConnectionPool(0, 1)
    twin.install(config)
    pools = [replaced.SimpleConnectionPool(0, 1), twin.ThreadedConnectionPool(0, 1)]
    assert [(pool._config.timeout, pool._config.reset) for pool in pools] == [(3, "rollback")] * 2
    assert replaced.SimpleConnectionPool(0, 1, config={"max_waiting": 1})._config.timeout == 3
    assert replaced.SimpleConnectionPool(0, 1, config=PoolConfig())._config.timeout == 10
    assert earlier._config.timeout == 10
    twin.install()
    assert replaced.SimpleConnectionPool(0, 1)._config.timeout == 10
    twin.uninstall()
    assert twin.SimpleConnectionPool(0, 1)._config.timeout == 10


@pytest.mark.parametrize("config", [{"no_such_option": 1}, {"timeout": "x"}, 5])
def test_a_wrong_config_installs_nothing(twin, replaced, config):
    before = dict(vars(replaced))
    with pytest.raises(TypeError):
        twin.install(config)
    assert dict(vars(replaced)) == before
    assert twin.SimpleConnectionPool(0, 1)._config.timeout == 10


def test_the_pool_of_one_driver_is_not_that_of_the_other():
    import_or_skip("psycopg2"), import_or_skip("ksycopg2")
    from dbpool import ksycopg2, psycopg2

    psycopg2.install({"timeout": 3})
    try:
        assert ksycopg2.SimpleConnectionPool(0, 1)._config.timeout == 10
        assert not issubclass(ksycopg2.PoolError, psycopg2.PoolError)
    finally:
        psycopg2.uninstall()


# ---- what is theirs -------------------------------------------------------------------------------------------------


def test_the_options_that_a_twin_has(twin):
    config = twin.ThreadedConnectionPool(0, 1)._config
    assert (config.reset, config.timeout, config.idle_timeout) == ("rollback", 10, 600)
    assert twin.ThreadedConnectionPool(0, 1, config={"reset": "clean"})._config.reset == "clean"


@pytest.mark.parametrize("name", NAMES)
def test_each_class_lends_and_closes(twin, dsn, name):
    pool = getattr(twin, name)(1, 2, dsn)
    with pool.connection() as conn:
        assert execute(conn, "SELECT 1") == (1,)
    lease_all(pool)
    assert adds_up(pool)
    pool.closeall()
    with pytest.raises(twin.PoolError, match="closed"):
        pool.getconn()


def test_abstract_is_a_simple_one(twin, dsn):
    with twin.AbstractConnectionPool(0, 1, dsn) as pool:
        assert isinstance(pool, dbpool.AbstractConnectionPool)
        conn = pool.getconn()
        with pytest.raises(twin.PoolError, match="exhausted"):
            pool.getconn()
        pool.putconn(conn)


def test_persistent_gives_a_thread_its_own(twin, dsn):
    with twin.PersistentConnectionPool(0, 2, dsn) as pool:
        conn = pool.getconn()
        assert pool.getconn() is conn
        other = Caller(lambda: pool.getconn() is conn)
        assert other.result() is False
        pool.putconn(conn, True)
        assert conn.closed


def test_persistent_underscore_methods(twin, dsn):
    class Telling(twin.PersistentConnectionPool):
        def _getconn(self, key=None):
            told.append(key)
            return super()._getconn()

    told = []
    with Telling(0, 1, dsn) as pool:
        pool._putconn(pool.getconn())
    assert told == [None]


# ---- like_psycopg2() ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SimpleConnectionPool", "ThreadedConnectionPool"])
def test_the_one_that_comes_back_is_closed_and_told_of(twin, dsn, name):
    class Telling(PoolListener):
        def released(self, pool, conn, seconds):
            told.append(conn)

    for listener in (None, Telling()):
        told = []
        config = PoolConfig.like_psycopg2(listener=listener)
        with getattr(twin, name)(1, 3, dsn, config=config) as pool:
            conns = [pool.getconn() for _ in range(3)]
            for conn in conns:
                pool.putconn(conn)
            assert [bool(conn.closed) for conn in conns] == [False, True, True]
            assert pool.stats().discards == {"surplus": 2}
            assert adds_up(pool)
            assert told == ([] if listener is None else conns)


def test_who_waits_gets_it_all_the_same(twin, dsn):
    """For a call that has a timeout of its own."""
    with twin.ThreadedConnectionPool(0, 1, dsn, config=PoolConfig.like_psycopg2()) as pool:
        conn = pool.getconn()
        caller = Caller(pool.getconn, timeout=10)
        eventually(lambda: pool.stats().waiting)
        pool.putconn(conn)
        assert caller.result() is conn
        pool.putconn(conn)
        assert conn.closed


# ---- keys of leases without one -------------------------------------------------------------------------------------


def test_an_automatic_key_equals_itself_only(twin, dsn):
    with twin.SimpleConnectionPool(0, 2, dsn) as pool:
        conns = [pool.getconn(), pool.getconn()]
        first, second = pool._used
        assert first == next(iter(pool._used))
        assert first != second
        assert first != 1
        assert repr(first) == "<no key>"
        with pytest.raises(twin.PoolError):
            pool.putconn(pool._used[first], second)
        assert len(pool._used) == 2
        for conn in conns:
            pool.putconn(conn)


def test_a_dropped_connection_is_in_no_view(twin, dsn):
    with twin.SimpleConnectionPool(0, 1, dsn) as pool:
        pool.getconn()
        assert pool._used == {}
        with pytest.warns(ResourceWarning, match="dropped without putconn"):
            lease_all(pool)


# ---- drivers that are not there -------------------------------------------------------------------------------------


def test_without_psycopg2_the_extra_is_named():
    status, out, err = python("-c", "import dbpool.psycopg2", hide="psycopg2,ksycopg2")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == (
        "ImportError: psycopg2 is not installed: from the checkout run `pip install .[psycopg2]`"
    )


def test_what_a_driver_lacks_itself_is_told_as_it_is(tmp_path):
    package = tmp_path / "psycopg2"
    package.mkdir()
    (package / "__init__.py").write_text("import no_such_module", encoding="utf-8")
    status, _, err = python("-c", "import dbpool.psycopg2", path=tmp_path, hide="ksycopg2")
    # The folder stands behind the checkout on sys.path, but before the installed packages.
    assert status == 1
    assert err.splitlines()[-1] == "ModuleNotFoundError: No module named 'no_such_module'"
