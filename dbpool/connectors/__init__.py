"""What the pool knows about each kind of connection."""

from importlib import import_module
from typing import TYPE_CHECKING

from dbpool.connectors.base import Connector, find

if TYPE_CHECKING:
    from dbpool.connectors.aio import AsyncConnector
    from dbpool.connectors.aio_sockets import AsyncTcpConnector, AsyncTlsConnector, AsyncUnixConnector
    from dbpool.connectors.sockets import TcpConnector, TlsConnector, UnixConnector

__all__ = [
    "AsyncConnector",
    "AsyncTcpConnector",
    "AsyncTlsConnector",
    "AsyncUnixConnector",
    "Connector",
    "TcpConnector",
    "TlsConnector",
    "UnixConnector",
    "find",
]
_LATER = {
    "AsyncConnector": "aio",
    "AsyncTcpConnector": "aio_sockets",
    "AsyncTlsConnector": "aio_sockets",
    "AsyncUnixConnector": "aio_sockets",
    "TcpConnector": "sockets",
    "TlsConnector": "sockets",
    "UnixConnector": "sockets",
}


def __getattr__(name: str) -> object:
    """Load what few programs need when it is asked for."""
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
