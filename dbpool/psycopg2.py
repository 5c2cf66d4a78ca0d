"""psycopg2.pool's twin: the same names and arguments, over psycopg2. Change the import, or call install()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from dbpool import pool
from dbpool.errors import bind
from dbpool.twins import Dispatching, Replacement, Twin

try:
    import psycopg2
    from psycopg2 import pool as replaced
except ModuleNotFoundError as exc:
    if exc.name != "psycopg2":
        raise
    raise ImportError(
        "psycopg2 is not installed: from the checkout run `pip install .[psycopg2]`", name=exc.name
    ) from None

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbpool.config import PoolConfig

__all__ = [
    "AbstractConnectionPool", "PersistentConnectionPool", "PoolError", "SimpleConnectionPool", "ThreadedConnectionPool",
    "install", "uninstall",
]  # fmt: skip

PoolError = bind(replaced.PoolError).PoolError  # a psycopg2.pool.PoolError, and so a psycopg2.Error


class _Psycopg2(Twin):
    _module: ClassVar[Any] = psycopg2
    _error = replaced.PoolError


class AbstractConnectionPool(_Psycopg2, pool.AbstractConnectionPool[Any]):
    """psycopg2.pool.AbstractConnectionPool. Used directly, it is a SimpleConnectionPool."""


class SimpleConnectionPool(AbstractConnectionPool, pool.SimpleConnectionPool[Any]):
    """psycopg2.pool.SimpleConnectionPool: for one thread; it never waits."""


class ThreadedConnectionPool(AbstractConnectionPool, pool.ThreadedConnectionPool[Any], Dispatching):
    """psycopg2.pool.ThreadedConnectionPool; threads that can be served wait, up to ``timeout``."""


class PersistentConnectionPool(AbstractConnectionPool, pool.PersistentConnectionPool[Any], Dispatching):
    """The pool that psycopg2 had until 2.7: each thread has a connection of its own."""


_replacement = Replacement(_Psycopg2, globals())


def install(config: PoolConfig | Mapping[str, Any] | None = None) -> None:
    """Have ``psycopg2.pool`` offer these classes; *config*: the options of pools that are made from now on."""
    _replacement.install(replaced, config)


def uninstall() -> None:
    """Have ``psycopg2.pool`` offer its own classes again."""
    _replacement.uninstall(replaced)
