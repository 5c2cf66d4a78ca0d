"""Gives the fault tests the servers and pools that the pains have, and a proxy before a server."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Callable

import pytest
from faultproxy import FaultProxy
from pains.conftest import (  # noqa: F401  (fixtures)
    address,
    alone,
    driver,
    freeze,
    inn,
    inns,
    leaping,
    make,
    other_inn,
    town,
)
from servers import import_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster


@pytest.fixture
def through() -> Iterator[Callable[[Cluster], tuple[FaultProxy, str]]]:
    """Puts a proxy before a server; returns the proxy, and a DSN that leads to the server by it."""
    with ExitStack() as proxies:

        def before(cluster: Cluster) -> tuple[FaultProxy, str]:
            proxy = proxies.enter_context(FaultProxy(("127.0.0.1", cluster.port)))
            return proxy, cluster.tcp_dsn.replace(f"port={cluster.port}", f"port={proxy.port}")

        yield before


@pytest.fixture(params=["psycopg2", "psycopg"])
def through_driver(request: pytest.FixtureRequest) -> Any:
    """Each driver that can go through a proxy of this process: ksycopg2 holds the GIL as it connects."""
    return import_or_skip(request.param)
