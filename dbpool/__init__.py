"""A connection pool for Python that speaks psycopg2.pool's language: fair, self-healing, and it never loses a slot."""

from dbpool.config import PoolConfig
from dbpool.connectors import Connector
from dbpool.errors import PoolClosed, PoolDeadlock, PoolError, PoolExhausted, PoolTimeout, TooManyWaiters
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
]
