"""Gives every test its servers, says which PostgreSQL it is, and keeps the nightly tests for the night."""

from __future__ import annotations

import gc
import os
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, Callable

import pytest
import rediserver
from clusters import Cluster, Installation, installed, new_cluster
from mariadb import started
from servers import Missing, Server, choose, choose_for_clusters, require_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_RERUNS = 3  # tests that may come right only at the second try, where one is allowed
WISH = os.environ.get("DBPOOL_TEST_SERVER", "auto")


@cache
def chosen(choice: Callable[[str], tuple[Any, str]]) -> tuple[Any, str]:
    """Ask once: whether a Docker engine answers takes a while."""
    return choice(WISH)


def pytest_report_header() -> str:
    """Say which server the tests would use, and why."""
    try:
        return f"PostgreSQL: {chosen(choose)[1]}"
    except Missing as missing:
        return f"PostgreSQL: none ({missing})"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the nightly tests by day."""
    if os.environ.get("DBPOOL_NIGHTLY") == "1":
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    config.hook.pytest_deselected(items=nightly)
    items[:] = [item for item in items if item not in nightly]


def pytest_collection_finish() -> None:
    """Have the collector pass over all that is imported by now: tests that collect then take a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail, where a test that fails is run again, if that were too many."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reruns = 0 if reporter is None else len(reporter.stats.get("rerun", ()))
    if reruns > MOST_RERUNS:
        reporter.write_line(f"{reruns} tests were run again, and only {MOST_RERUNS} may be", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL that all tests share: `dsn` and `how`."""
    try:
        found, how = chosen(choose)
    except Missing as missing:
        require_or_skip("postgres", str(missing))
    with found.serve() as dsn:
        yield Server(dsn, how)


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """PostgreSQL's programs and an initialised data folder: what clusters are made from."""
    try:
        programs, _ = chosen(choose_for_clusters)
    except Missing as missing:
        require_or_skip("cluster", str(missing))
    with installed(programs.binaries) as installation:
        yield installation


@pytest.fixture
def cluster(installation: Installation) -> Iterator[Callable[..., Cluster]]:
    """Makes and starts a test's own servers: `cluster(max_connections="5")`; removes them when it ends."""
    with ExitStack() as clusters:

        def start(**settings: str) -> Cluster:
            return clusters.enter_context(new_cluster(installation, **settings)).start()

        yield start


@pytest.fixture(scope="session")
def mariadb_and_pid() -> Iterator[tuple[dict[str, Any], int]]:
    """A MariaDB that the tests share: the arguments of a driver, and its process."""
    with started() as found:
        yield found


@pytest.fixture
def mariadb(mariadb_and_pid: tuple[dict[str, Any], int]) -> dict[str, Any]:
    """The arguments of a driver for it."""
    return mariadb_and_pid[0]


@pytest.fixture
def redis() -> Iterator[rediserver.Redis]:
    """A Redis of the test's own, on a port; it may be stopped, started again and frozen."""
    with rediserver.started() as server:
        yield server
