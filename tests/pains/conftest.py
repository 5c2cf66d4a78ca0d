"""Gives the tests of the pains their servers, the drivers, and pools that are closed at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from clusters import new_cluster
from drivers.conftest import name_socket_for_kingbase
from fakes import clock_replaced, no_housekeeper
from servers import import_or_skip

from dbpool import ThreadedConnectionPool

from .sessions import NAME, Leaping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster, Installation


@pytest.fixture(scope="session")
def town(installation: Installation) -> Iterator[Cluster]:
    """A server that is never stopped, shared by the tests that kill or freeze backends; it logs each statement."""
    import_or_skip("psycopg2")
    with new_cluster(installation, log_statement="all", log_line_prefix="%a|") as cluster:
        yield cluster.start()


@pytest.fixture(scope="session")
def inns(installation: Installation) -> Iterator[list[Cluster]]:
    """Two servers to stop and start, shared by the tests that do so."""
    import_or_skip("psycopg2")
    with new_cluster(installation) as first, new_cluster(installation) as second:
        yield [first, second]


@pytest.fixture
def inn(inns: list[Cluster]) -> Cluster:
    """A server that the test may stop and start; it runs."""
    return inns[0] if inns[0]._postmaster else inns[0].start()


@pytest.fixture
def other_inn(inns: list[Cluster]) -> Cluster:
    """Another one."""
    return inns[1] if inns[1]._postmaster else inns[1].start()


class Address:
    """A folder that stands for a host's name: it leads to the server that has the name now, or to none."""

    def __init__(self, folder: str) -> None:
        self.dsn = f"host={folder} port=5432 user=postgres dbname=postgres"
        self._names = [Path(folder) / name for name in (".s.PGSQL.5432", ".s.KINGBASE.5432")]

    def point(self, cluster: Cluster | None) -> None:
        for name in self._names:
            if name.is_symlink():
                name.unlink()
            if cluster is not None:
                name.symlink_to(cluster.data.parent / f".s.PGSQL.{cluster.port}")


@pytest.fixture
def address() -> Iterator[Address]:
    """A host's name, that of no server yet."""
    with tempfile.TemporaryDirectory(prefix="host-") as folder:
        yield Address(folder)


@pytest.fixture(params=["psycopg2", "ksycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest) -> Any:
    """Each driver that speaks to PostgreSQL."""
    return import_or_skip(request.param)


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Makes a pool: `make(dsn, minconn, maxconn, driver=..., kind=..., option=...)`."""
    psycopg2 = import_or_skip("psycopg2")
    pools = []

    def make(
        dsn: Any, minconn: int = 0, maxconn: int = 2, *, driver: Any = psycopg2, kind: Any = ThreadedConnectionPool,
        name: str = NAME, **options: Any,
    ) -> Any:  # fmt: skip
        if driver.__name__ == "ksycopg2" and isinstance(dsn, str) and "port=5432" not in dsn:
            name_socket_for_kingbase(dsn)
        config = {"detect_deadlock": False, **options}  # a test's only thread may wait
        pool = kind(minconn, maxconn, dsn, connect=driver, config=config, application_name=name)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(timeout=0)


@pytest.fixture
def freeze() -> Iterator[Callable[[Any, int], None]]:
    """Freezes a backend: `freeze(cluster, pid)`; it thaws when the test ends."""
    frozen = []

    def freeze(cluster: Any, pid: int) -> None:
        frozen.append((cluster, pid))
        cluster.pause(pid)

    yield freeze
    for cluster, pid in frozen:
        if pid in cluster._paused:
            cluster.resume(pid)


@pytest.fixture
def leaping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leaping]:
    """The clock of all pools: it runs, and leaps ahead when told. The housekeeper sleeps through it."""
    monkeypatch.setattr("dbpool.pool._collected", 0.0)  # else it would keep a time of this clock
    clock = Leaping()
    with clock_replaced(clock):
        yield clock


@pytest.fixture
def alone() -> Iterator[None]:
    """No pool has a housekeeper: nothing happens but what the test does."""
    with no_housekeeper():
        yield
