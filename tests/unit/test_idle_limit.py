"""A server that ends idle sessions sooner than the pool does: that is told once, and asked once."""

from __future__ import annotations

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import SimpleConnectionPool, ThreadedConnectionPool

from .checks import lease_all


class Limiting(FakeConnector):
    """Its server ends sessions that are idle for *limit* seconds; or raises it, when it is asked."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.asked = limit, 0

    def idle_limit(self, conn):
        self.asked += 1
        if isinstance(self.limit, Exception):
            raise self.limit
        return self.limit


@pytest.fixture(params=[SimpleConnectionPool, ThreadedConnectionPool])
def lease_from(request):
    """Leases all connections of a new pool over a connector, with options."""

    def lease(connector, **options):
        with request.param(2, 3, connect=connector, config={"name": "shop", **options}) as pool:
            lease_all(pool)

    return lease


SHORTER = [{}, {"idle_timeout": None}, {"ping_interval": 600}, {"idle_timeout": 61, "ping_interval": 61}]
LONGER = [{"idle_timeout": 60}, {"idle_timeout": 30}, {"ping_interval": 30}, {"idle_timeout": None, "ping_interval": 9}]


@pytest.mark.parametrize("options", SHORTER, ids=str)
def test_a_shorter_limit_is_told_once(lease_from, caplog, options):
    connector = Limiting(60.0)
    lease_from(connector, **options)
    [record] = caplog.records
    assert record.getMessage().startswith("shop: the server ends sessions that are idle for 60 s")
    assert connector.asked == 1


@pytest.mark.parametrize("options", LONGER, ids=str)
def test_any_other_is_not(lease_from, caplog, options):
    lease_from(Limiting(60.0), **options)
    assert not caplog.records


@pytest.mark.parametrize("limit", [None, OperationalError("no such view")])
def test_nor_is_none_and_a_server_that_does_not_know_is_none_the_worse(lease_from, caplog, limit):
    connector = Limiting(limit)
    lease_from(connector)
    assert connector.asked == 1
    assert not caplog.records


def test_who_keeps_no_idle_connections_does_not_ask(lease_from):
    connector = Limiting(60.0)
    lease_from(connector, idle_timeout=0)
    assert not connector.asked
