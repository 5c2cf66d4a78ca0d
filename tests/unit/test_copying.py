"""A pool cannot be copied or pickled: two that share connections would break both. The error says why."""

from __future__ import annotations

import copy
import pickle

import pytest

from dbpool import AsyncConnectionPool, Limiter, PoolConfig

from .awaiting import AwaitedDriver

WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickle.dumps}


@pytest.mark.synchronous
@pytest.mark.fault(62)
@pytest.mark.parametrize("way", WAYS)
def test_a_pool_says_that_its_connections_are_its_own(make, kind, way):
    pool = make(kind, 1, 2)
    with pytest.raises(TypeError, match=f"cannot copy or pickle {kind.__name__}: its connections belong to this"):
        WAYS[way](pool)


@pytest.mark.synchronous
@pytest.mark.parametrize("way", WAYS)
def test_so_do_a_block_and_a_limiter(make, way):
    pool = make(maxconn=1)
    with pytest.raises(TypeError, match="cannot copy or pickle Lease: it lends a connection"):
        WAYS[way](pool.connection())
    with pytest.raises(TypeError, match="cannot copy or pickle KeyedLease"):
        WAYS[way](pool.connection("a"))
    with pytest.raises(TypeError, match="cannot copy or pickle Limiter"):
        WAYS[way](Limiter(2))


@pytest.mark.parametrize("way", WAYS)
def test_so_do_a_pool_of_an_event_loop_and_its_blocks(way):
    pool = AsyncConnectionPool(0, 1, connect=AwaitedDriver().connect)
    for refused, name in (
        (pool, "AsyncConnectionPool"),
        (pool.connection(), "AsyncLease"),
        (pool.connection("a"), "KeyedAsyncLease"),
    ):
        with pytest.raises(TypeError, match=f"cannot copy or pickle {name}: "):
            WAYS[way](refused)


def test_a_config_can_be_copied_with_its_limiter():
    config = PoolConfig(limiter=Limiter(2))
    assert copy.copy(config) == config
