"""A connection pool for Python that speaks psycopg2.pool's language: fair, self-healing, and it never loses a slot."""

from dbpool.config import PoolConfig
from dbpool.connectors import Connector
from dbpool.errors import PoolClosed, PoolDeadlock, PoolError, PoolExhausted, PoolTimeout, TooManyWaiters
from dbpool.limiter import Limiter
from dbpool.listener import PoolListener
from dbpool.pool import (
    AbstractConnectionPool,
    PersistentConnectionPool,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)
from dbpool.stats import PoolStats

__all__ = [
    "AbstractConnectionPool",
    "Connector",
    "Limiter",
    "PersistentConnectionPool",
    "PoolClosed",
    "PoolConfig",
    "PoolDeadlock",
    "PoolError",
    "PoolExhausted",
    "PoolListener",
    "PoolStats",
    "PoolTimeout",
    "SimpleConnectionPool",
    "ThreadedConnectionPool",
    "TooManyWaiters",
    "dump",
    "dump_on_signal",
]


def __getattr__(name: str) -> object:
    """Load what few programs need when it is asked for."""
    if name in ("dump", "dump_on_signal"):
        from dbpool import dumping

        return getattr(dumping, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
