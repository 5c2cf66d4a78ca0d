"""Row 68: a password is in nothing that a pool prints, raises, logs or keeps, nor in the frames of its errors."""

from __future__ import annotations

import gc
import io
import logging
import pprint
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import ask, tell
from drivers.conftest import name_socket_for_kingbase
from pains.sessions import dsn_of, kill, pid_of
from unit.threads import Caller, eventually

import dbpool
from dbpool import PersistentConnectionPool, PoolListener, SimpleConnectionPool, ThreadedConnectionPool
from dbpool.hidden import HiddenArgs, HiddenKwargs

HOME = str(Path(dbpool.__file__).parent)
KINDS = [SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool]
WRONG = "s3cr3t 'and wrong'"


def words_of(cluster, password):
    return {**dict(word.split("=", 1) for word in cluster.tcp_dsn.split()), "password": password}


def quoted(password):
    return "'" + password.replace("'", "\\'") + "'"


SCHEMES = {"psycopg2": "postgresql", "ksycopg2": "kingbase", "psycopg": "postgresql"}
FORMS = {
    "dsn": lambda town, password: ((dsn_of(town, password=quoted(password)),), {}),
    "uri": lambda town, password: (
        (f"scheme://postgres:{quote(password, safe='')}@127.0.0.1:{town.port}/postgres",),
        {},
    ),
    "dict": lambda town, password: ((words_of(town, password),), {}),
    "keywords": lambda town, password: ((), words_of(town, password)),
    "function": lambda town, password: ((lambda: dsn_of(town, password=quoted(password)),), {}),
}


def given(form, town, driver, password):
    """Return the arguments of connect, with a password in the given form."""
    args, kwargs = FORMS[form](town, password)
    if form == "uri":
        args = (args[0].replace("scheme", SCHEMES[driver.__name__]),)
    return args, kwargs


class Ear(PoolListener):
    """Keeps what it is told."""

    def __init__(self):
        self.heard = []

    def connect_failed(self, pool, error):
        self.heard.append(error)


def of_error(error):
    """Yield what can be seen of an error and its causes: text, attributes, the locals of the package's own frames."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)), repr(getattr(error, "__notes__", "")))
        for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack:
            if frame.filename.startswith(HOME):
                yield from (f"{frame.name}, local {name}: {value}" for name, value in (frame.locals or {}).items())
        error = error.__cause__ or error.__context__


def kept(thing, path="pool", seen=None):
    """Yield the repr of all that a pool keeps, with the way there; hidden arguments are not looked into."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield f"{path}: {thing!r} {pprint.pformat(thing)}"
    if isinstance(thing, BaseException):
        yield from (f"{path}: {text}" for text in of_error(thing))
    if isinstance(thing, (HiddenArgs, HiddenKwargs, type)):
        return
    if isinstance(thing, dict):
        inner = [(f"[{key!r}]", value) for key, value in thing.items()]
    elif isinstance(thing, (list, tuple, set, frozenset)) or type(thing).__name__ == "deque":
        inner = [(f"[{number}]", value) for number, value in enumerate(list(thing))]
    elif type(thing).__module__.startswith("dbpool"):
        names = [
            *getattr(thing, "__dict__", ()),
            *(n for c in type(thing).__mro__ for n in getattr(c, "__slots__", ())),
        ]
        inner = [(f".{name}", getattr(thing, name, None)) for name in names if not name.startswith("__")]
    else:
        return
    for step, value in inner:
        yield from kept(value, path + step, seen)


def of_pool(pool):
    """Yield what can be seen of a pool, and all that it keeps."""
    dumped = io.StringIO()
    dbpool.dump(dumped)
    yield dumped.getvalue()
    for shown in (pool, pool.stats(), pool.holders(), pool.waiters(), pool._args, pool._kwargs, pool._used, vars(pool)):
        yield from (repr(shown), str(shown), f"{shown}", pprint.pformat(shown))
    yield from kept(pool)


def of_log(caplog):
    for record in caplog.records:
        yield f"{record.getMessage()} {vars(record)!r} {record.exc_text}"


def found(texts, *secrets):
    """Return those of *texts* with a secret in them."""
    texts = list(texts)
    assert len(texts) > 50, "nothing was looked at"
    return [text[:300] for text in texts for secret in secrets if secret in text]


@pytest.mark.fault(68)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", ["eager", "lazy"])
def test_a_wrong_password_is_in_no_channel(town, driver, caplog, kind, form, start):
    name_socket_for_kingbase(town.dsn)
    caplog.set_level(logging.DEBUG)
    args, kwargs = given(form, town, driver, WRONG)
    ear, errors, pools = Ear(), [], []

    def attempt():
        config = {"start": start, "listener": ear, "trace": True, "timeout": 5}
        pools.append(kind(1, 2, *args, connect=driver, config=config, **kwargs))
        for _ in range(2):
            pools[0].getconn()

    try:
        attempt()
    except driver.Error as error:
        errors.append(error)
    assert "authentication failed" in str(errors[0])
    pools = pools or [pool for pool in gc.get_objects() if type(pool) is kind]  # the constructor gave none away
    texts = [*of_error(errors[0]), *of_log(caplog)]
    for heard in ear.heard:
        texts += of_error(heard)
    for pool in pools:
        texts += of_pool(pool)
    assert found(texts, WRONG, quoted(WRONG), quote(WRONG, safe=""), "s3cr3t") == []
    assert ear.heard


@pytest.mark.fault(68)
@pytest.mark.parametrize("form", FORMS)
def test_the_right_one_is_in_no_channel_either_whatever_goes_wrong(town, driver, caplog, form):
    """A lost connection, failed hooks, a time-out, wrong calls: each error with its frames, and the pool in between."""
    name_socket_for_kingbase(town.dsn)
    caplog.set_level(logging.DEBUG)
    secret = town.installation.password
    args, kwargs = given(form, town, driver, secret)
    fails, texts = [], []

    def hook(conn):
        if fails:
            tell(conn, "SELECT 1/0")

    config = {"trace": True, "leak_threshold": 0.001, "ping_after": 0, "timeout": 5, "detect_deadlock": False}
    config.update(on_connect=hook, reset=hook)
    with ThreadedConnectionPool(0, 1, *args, connect=driver, config=config, **kwargs) as pool:
        conn = pool.getconn()
        assert ask(conn, "SELECT 1") == 1
        waiter = Caller(pool.getconn, timeout=0.05)
        eventually(lambda: waiter.ended)
        texts += of_pool(pool)
        pool.check()
        kill(town, [pid_of(conn)])
        pool.putconn(conn)
        fails.append(True)
        for wrong in (
            pool.getconn,
            lambda: pool.putconn(conn),
            lambda: ThreadedConnectionPool("5", 1, *args, **kwargs),
        ):
            with pytest.raises((driver.Error, TypeError)) as caught:
                wrong()
            texts += of_error(caught.value)
        texts += [*of_error(waiter.error), *of_pool(pool)]
        fails.clear()
        conn = pool.getconn()
        fails.append(True)
        pool.putconn(conn)
        texts += [*of_pool(pool), *of_log(caplog)]
    assert found(texts, secret) == []
