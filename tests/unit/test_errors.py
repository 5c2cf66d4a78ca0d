"""The errors: caught as the pool's or as the driver's, importable, picklable, and their texts say why."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pickle
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import fakes
import pytest

import dbpool
from dbpool import (
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    TooManyWaiters,
    errors,
)
from dbpool.errors import bind

from . import dbapi
from .threads import Caller, eventually

PUBLIC = (PoolError, PoolClosed, PoolExhausted, PoolTimeout, TooManyWaiters, PoolDeadlock)
DRIVERS = [None, fakes.Error, sqlite3.Error]
if importlib.util.find_spec("psycopg2") is not None:
    import psycopg2

    DRIVERS.append(psycopg2.Error)


@pytest.fixture(params=DRIVERS, ids=lambda driver: "no driver" if driver is None else driver.__module__)
def driver_error(request):
    return request.param


@pytest.fixture(params=PUBLIC, ids=lambda public: public.__name__)
def public(request):
    return request.param


@pytest.fixture
def bound(driver_error, public):
    """Each public error as each driver's pool raises it."""
    return getattr(bind(driver_error), public.__name__)


def test_the_plain_errors_form_one_family():
    assert issubclass(PoolClosed, PoolError)
    assert issubclass(PoolExhausted, PoolError)
    assert issubclass(PoolTimeout, PoolExhausted)
    assert issubclass(TooManyWaiters, PoolExhausted)
    assert not issubclass(PoolClosed, PoolExhausted)


def test_a_bound_error_is_caught_by_its_plain_class(bound, public):
    with pytest.raises(public):
        raise bound("connection pool exhausted")


def test_a_bound_error_is_caught_by_the_drivers_error(bound, driver_error):
    if driver_error is not None:
        with pytest.raises(driver_error):
            raise bound("connection pool exhausted")


def test_a_bound_error_is_caught_by_every_bound_parent(driver_error, public):
    made = bind(driver_error)
    for parent in PUBLIC:
        related = issubclass(public, parent)
        assert issubclass(getattr(made, public.__name__), getattr(made, parent.__name__)) is related


def test_an_error_of_one_driver_is_not_caught_as_anothers():
    assert not issubclass(bind(sqlite3.Error).PoolTimeout, fakes.Error)
    assert not issubclass(bind(sqlite3.Error).PoolTimeout, bind(fakes.Error).PoolError)


@pytest.mark.parametrize("driver_error", [None, fakes.Error, sqlite3.Error], indirect=True)
def test_a_time_out_is_a_timeout_error_too(driver_error):
    assert issubclass(bind(driver_error).PoolTimeout, TimeoutError)


def test_the_classes_are_made_once(driver_error):
    assert bind(driver_error) is bind(driver_error)
    assert bind(driver_error).PoolTimeout is bind(driver_error).PoolTimeout


def test_threads_that_bind_at_once_get_the_same_classes():
    class Error(Exception):
        pass

    barrier, found = threading.Barrier(8), []

    def work():
        barrier.wait()
        found.append(bind(Error).PoolTimeout)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_bound_class_is_found_by_its_name_in_the_module(bound):
    module = importlib.import_module(bound.__module__)
    assert module is errors
    assert getattr(module, bound.__name__) is bound
    assert bound.__qualname__ == bound.__name__


@pytest.mark.parametrize(
    "name",
    [
        "PoolErrors", "PoolError__", "PoolError__nosuch__Error", "PoolError__sqlite3__Nothing", "driver__x", "Timeout",
        "PoolError__sqlite3__connect", "PoolError__os__path", "PoolTimeout__sqlite3", "__wrapped__",
    ],
)  # fmt: skip
def test_the_module_has_no_other_names(name):
    assert name == "PoolError__" or not hasattr(errors, name)
    with pytest.raises(AttributeError, match=name):
        getattr(errors, name if name != "PoolError__" else name + "x__")


def test_an_instance_survives_pickling_and_copying(bound):
    error = bound("connection pool exhausted", 5)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is bound
        assert again.args == error.args
        assert str(again) == str(error)


@pytest.mark.parametrize("driver_error", [None, fakes.Error, sqlite3.Error], indirect=True)
def test_what_was_noted_on_an_instance_survives_pickling(bound):
    """(psycopg2's own errors forget it.)"""
    error = bound("connection pool exhausted")
    error.hint = "later"
    assert pickle.loads(pickle.dumps(error)).hint == "later"


def test_a_class_survives_pickling(bound):
    assert pickle.loads(pickle.dumps(bound)) is bound


PROGRAM = """
import pickle, sys
sys.path[:0] = sys.argv[1:]
error, kind = pickle.load(sys.stdin.buffer)
assert type(error) is kind
from dbpool import PoolTimeout, errors
assert isinstance(error, PoolTimeout)
print(kind.__name__, error, *[base.__module__ for base in kind.__mro__ if base.__name__ == "Error"])
"""


def test_a_fresh_process_reads_a_pickled_error(driver_error):
    bound = bind(driver_error).PoolTimeout
    here = [str(Path(module.__file__).parents[depth]) for module, depth in ((dbpool, 1), (fakes, 0))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *here],
        input=pickle.dumps((bound("connection pool exhausted"), bound)),
        capture_output=True,
        check=True,
    )
    told = done.stdout.decode().split()
    assert told[0] == bound.__name__
    assert told[1:4] == ["connection", "pool", "exhausted"]
    assert told[4:] == ([] if driver_error is None else [driver_error.__module__])


def test_a_fresh_process_imports_a_bound_class_by_name():
    name = bind(sqlite3.Error).PoolClosed.__name__
    program = f"import sys; sys.path.insert(0, sys.argv[1]); from dbpool.errors import {name}; print({name}.__mro__)"
    command = [sys.executable, "-c", program, str(Path(dbpool.__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "sqlite3.Error" in done.stdout


def test_a_pool_raises_its_drivers_kind(make, driver):
    pool = make(maxconn=1, timeout=0)
    conn = pool.getconn()
    with pytest.raises(fakes.Error, match=r"^connection pool exhausted") as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolExhausted)
    pool.putconn(conn)


@pytest.fixture(params=["fakedb", "fakedb.driver"])
def module(request, monkeypatch):
    """A DB-API module, at the top or (as mysql.connector is) inside a package."""
    spec = importlib.util.spec_from_file_location(request.param, dbapi.__file__)
    made = importlib.util.module_from_spec(spec)
    for name in ("fakedb", request.param):
        monkeypatch.setitem(sys.modules, name, made if name == request.param else ModuleType(name))
    spec.loader.exec_module(made)
    return made


def test_a_pool_over_a_module_knows_its_error_before_it_connects(module, waiting_kind):
    pool = waiting_kind(0, 1, connect=module)
    pool.closeall()
    with pytest.raises(module.Error):
        pool.getconn()


def test_a_pool_over_a_function_of_a_module_knows_its_error_before_it_connects(module, waiting_kind):
    pool = waiting_kind(0, 1, connect=module.connect)
    pool.closeall()
    with pytest.raises(module.Error):
        pool.getconn()


def test_a_pool_over_any_function_learns_the_error_from_what_connect_raises(module, waiting_kind):
    def connect():
        return module.connect("refuse")

    pool = waiting_kind(0, 1, connect=connect)
    with pytest.raises(module.DatabaseError):
        pool.getconn()
    pool.closeall()
    with pytest.raises(module.Error):
        pool.getconn()


def test_a_pool_over_any_function_learns_the_error_from_what_connect_returns(module, waiting_kind):
    def connect():
        return module.Connection()

    pool = waiting_kind(1, 1, connect=connect)
    pool.closeall()
    with pytest.raises(module.Error):
        pool.getconn()


def test_whatever_is_exhausted_says_so_first(make, driver, clock):
    pool = make(maxconn=1, timeout=60, connect_timeout=5, max_waiting=0)
    driver.gate.clear()
    connecting = Caller(pool.getconn)
    eventually(lambda: driver.calls)
    with pytest.raises(TooManyWaiters, match=r"^connection pool exhausted"):
        pool.getconn()
    clock.leap(6)
    with pytest.raises(PoolTimeout, match=r"^connection pool exhausted"):
        connecting.result()
