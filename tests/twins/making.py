"""Cases: names and signatures, making a pool, and what is given to connect."""

from __future__ import annotations

import _thread
import inspect
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

from unit.threads import eventually

from .cases import BOTH, case, names
from .subjects import execute

# ---- names and signatures -------------------------------------------------------------------------------------------


@names
def four_names(subject):
    wanted = ("AbstractConnectionPool", *BOTH, "PoolError")
    return [name for name in wanted if isinstance(getattr(subject.module, name, None), type)]


@names
def persistent_connection_pool(subject):
    return hasattr(subject.module, "PersistentConnectionPool")


@names
def bases_of_pool_error(subject):
    error, driver = subject.module.PoolError, subject.driver
    return [issubclass(error, base) for base in (driver.Error, driver.OperationalError, driver.DatabaseError)]


@names
def bases_of_the_class(subject):
    return [issubclass(subject.pool_class, getattr(subject.module, name)) for name in ("AbstractConnectionPool", *BOTH)]


@names
def public_methods_of_abstract(subject):
    return [hasattr(subject.module.AbstractConnectionPool, name) for name in ("getconn", "putconn", "closeall")]


@names
def underscore_methods(subject):
    wanted = ("_connect", "_getkey", "_getconn", "_putconn", "_closeall")
    return [callable(getattr(subject.module.AbstractConnectionPool, name, None)) for name in wanted]


@names
def aliases(subject):
    """Simple's methods are Abstract's with an underscore."""
    abstract, kind = subject.module.AbstractConnectionPool, subject.pool_class
    return [getattr(kind, name) is getattr(abstract, f"_{name}") for name in ("getconn", "putconn", "closeall")]


def signature(function: Any) -> list[str]:
    return [str(each.replace(annotation=each.empty)) for each in inspect.signature(function).parameters.values()]


@names
def signature_of_init(subject):
    return signature(subject.pool_class.__init__)


@names
def signature_of_getconn(subject):
    return signature(subject.pool_class.getconn)


@names
def signature_of_putconn(subject):
    return signature(subject.pool_class.putconn)


@names
def signature_of_closeall(subject):
    return signature(subject.pool_class.closeall)


@names
def further_public_attributes(subject):
    return sorted(
        name for name in dir(subject.pool_class) if name[0] != "_" and name not in ("getconn", "putconn", "closeall")
    )


@names
def context_manager(subject):
    return hasattr(subject.pool_class, "__enter__")


@names
def representation(subject):
    return f"{subject.kind} object at" in repr(subject.pool())


@names
def underscore_method_replaced_on_the_class(subject):
    """As tools for tracing may do it. (On an object it is a case for pools.)"""
    mock = MagicMock()
    subject.patch.setattr(subject.pool_class, "_getconn", mock, raising=False)
    return subject.pool(1, 2).getconn() is mock.return_value


# ---- making one -----------------------------------------------------------------------------------------------------


@case
def sizes_that_int_takes(subject):
    pools = [subject.pool(*sizes) for sizes in (("1", "2"), (1.9, 2.9), (True, 2), (b"1", 2))]
    return [(pool.minconn, pool.maxconn, len(pool._pool)) for pool in pools]


@case
def sizes_that_int_refuses(subject):
    wrong = (("a", 2), (0, "b"), ("", 1), ("1.5", 2))
    return [subject.told(subject.pool, *sizes) for sizes in wrong], len(subject.calls)


@case
def size_of_none(subject):
    return [subject.told(subject.pool, *sizes)[0] for sizes in ((None, 1), (0, None), ([], 1))]


@case
def negative_minconn(subject):
    return subject.told(lambda: subject.pool(-1, 2).minconn)


@case
def maxconn_below_minconn(subject):
    return subject.told(lambda: subject.pool(2, 1).maxconn)


@case
def maxconn_of_nothing(subject):
    return subject.told(lambda: subject.pool(0, 0).maxconn)


@case
def minconn_is_opened_at_once(subject):
    pool = subject.pool(2, 3)
    return len(subject.calls), len(pool._pool), pool._used, subject.states(), pool.closed


@case
def nothing_is_opened_without_minconn(subject):
    pool = subject.pool(0, 3)
    return len(subject.calls), pool._pool, pool._used


@case
def constructor_refused(subject):
    wrong = subject.dsn.replace("dbname=", "dbname=no_such_") + "_database"
    told = subject.told(subject.pool, 1, 2, wrong)
    return told, subject.opened


@case
def constructor_fails_half_way(subject):
    subject.refuse_from = 3
    threads = _thread._count()
    told = subject.told(subject.pool, 3, 3)
    eventually(lambda: _thread._count() <= threads)  # those that opened in parallel have ended
    return told, subject.states()


# ---- arguments of connect -------------------------------------------------------------------------------------------


@case
def arguments_reach_connect_untouched(subject):
    factory = type("connection", (subject.driver.extensions.connection,), {})
    keywords = {"application_name": "twin", "connection_factory": factory, "connect_timeout": 7}
    pool = subject.pool(1, 2, **keywords)
    conn = pool.getconn()
    return (
        subject.calls == [((subject.dsn,), keywords)],
        type(conn) is factory,
        execute(conn, "SHOW application_name"),
    )


@case
def keywords_named_like_options_are_connects(subject):
    subject.patch.setattr(subject.driver, "connect", lambda *args, **kwargs: subject.calls.append((args, kwargs)))
    options = ("name", "timeout", "reset", "start", "max_waiting", "minconns", "key", "dsn", "limiter", "background")
    for option in options:
        subject.told(subject.pool, 1, 1, "dbname=x", **{option: option})
    return subject.calls


@case
def arguments_are_kept(subject):
    pool = subject.pool(0, 1, subject.dsn, None, application_name="twin")
    return pool._args == (subject.dsn, None), pool._kwargs == {"application_name": "twin"}


@case
def arguments_show_when_printed(subject):
    pool = subject.pool(0, 1, subject.dsn, password="secret")
    return subject.dsn in repr(pool._args), "secret" in repr(pool._kwargs)


@case
def mapping_as_the_only_argument(subject):
    mapping = subject.driver.extensions.parse_dsn(subject.dsn)
    return subject.told(lambda: execute(subject.pool(1, 2, mapping).getconn(), "SELECT 1"))


@case
def callable_as_the_only_argument(subject):
    return subject.told(lambda: execute(subject.pool(1, 2, lambda: subject.dsn).getconn(), "SELECT 1"))


@case
def cursor_factory(subject):
    extras = import_module(f"{subject.driver.__name__}.extras")
    conn = subject.pool(1, 1, cursor_factory=extras.DictCursor).getconn()
    return execute(conn, "SELECT 1 AS one")["one"]


@case
def patched_connect_is_seen(subject):
    pool = subject.pool(0, 2)
    mock = MagicMock()
    subject.patch.setattr(subject.driver, "connect", mock)
    conn = pool.getconn()
    pool.putconn(conn)
    mock.assert_called_once_with(subject.dsn)
    return conn is mock.return_value


@case
def server_refuses_for_the_moment(subject):
    pool = subject.pool(0, 1, **subject.hasty)
    subject.refuse_from = 1
    subject.refusal = "FATAL:  the database system is starting up"
    refused = subject.told(pool.getconn)
    subject.refuse_from = 1000
    return refused, len(pool._used), subject.told(pool.getconn)


@case
def connect_fails_when_it_is_needed(subject):
    pool = subject.pool(0, 1)
    subject.refuse_from = 1
    refused = subject.told(pool.getconn)
    subject.refuse_from = 1000
    return refused, len(pool._used), subject.told(pool.getconn)
