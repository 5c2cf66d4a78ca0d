"""A connection pool for Python that speaks psycopg2.pool's language: fair, self-healing, and it never loses a slot."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from dbpool.aio import AsyncConnectionPool, AsyncConnector, AsyncEndpointPool, in_thread
    from dbpool.connectors import (
        AsyncTcpConnector,
        AsyncTlsConnector,
        AsyncUnixConnector,
        TcpConnector,
        TlsConnector,
        UnixConnector,
    )
    from dbpool.dumping import dump, dump_on_signal
    from dbpool.endpoints import EndpointPool

__all__ = [
    "AbstractConnectionPool",
    "AsyncConnectionPool",
    "AsyncConnector",
    "AsyncEndpointPool",
    "AsyncTcpConnector",
    "AsyncTlsConnector",
    "AsyncUnixConnector",
    "Connector",
    "EndpointPool",
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
    "TcpConnector",
    "ThreadedConnectionPool",
    "TlsConnector",
    "TooManyWaiters",
    "UnixConnector",
    "dump",
    "dump_on_signal",
    "in_thread",
]


def __getattr__(name: str) -> object:
    """Load what few programs need when it is asked for."""
    if name in ("dump", "dump_on_signal"):
        from dbpool import dumping

        return getattr(dumping, name)
    if name == "EndpointPool":
        from dbpool.endpoints import EndpointPool

        return EndpointPool
    if name in ("AsyncConnectionPool", "AsyncConnector", "AsyncEndpointPool", "in_thread"):
        from dbpool import aio

        return getattr(aio, name)
    if name in __all__:  # of the connectors, those for sockets
        from dbpool import connectors

        return getattr(connectors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
