"""What the pool knows about each kind of connection."""

from dbpool.connectors.base import Connector, find

__all__ = ["Connector", "find"]
