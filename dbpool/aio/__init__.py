"""The asynchronous pool: the second shell over the same state machine. An event loop is its lock."""

from dbpool.aio.endpoints import AsyncEndpointPool
from dbpool.aio.opening import in_thread
from dbpool.aio.pool import AsyncConnectionPool
from dbpool.connectors.aio import AsyncConnector

__all__ = ["AsyncConnectionPool", "AsyncConnector", "AsyncEndpointPool", "in_thread"]
