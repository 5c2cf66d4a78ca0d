"""The monitor: what the pools of a process are doing, as a page, as JSON, and for Prometheus; off until it is started.

with pool_monitor() as monitor:  # http://127.0.0.1:8765/, a thread of its own
...
app = wsgi_app()  # or asgi_app(): to be mounted in an application
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbpool.monitor.server import PoolMonitor, pool_monitor
from dbpool.monitor.wsgi import wsgi_app

if TYPE_CHECKING:
    from dbpool.monitor.asgi import asgi_app

__all__ = ["PoolMonitor", "asgi_app", "pool_monitor", "wsgi_app"]


def __getattr__(name: str) -> object:
    """Load asyncio only for who wants it."""
    if name == "asgi_app":
        from dbpool.monitor.asgi import asgi_app

        return asgi_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
