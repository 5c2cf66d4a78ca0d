"""A server that the twins reach over TCP, and a line about their differences in the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clusters import new_cluster
from servers import import_or_skip

from .differences import BUG_FIX, DIFFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster, Installation


@pytest.fixture(scope="package")
def tcp(installation: Installation) -> Iterator[Cluster]:
    """A server which listens on TCP and asks for a password."""
    import_or_skip("psycopg2")
    with new_cluster(installation) as cluster:
        yield cluster.start()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many differences there are, if they were tried."""
    if any("test_the_twin_does_as_psycopg2" in test.nodeid for test in terminalreporter.stats.get("passed", ())):
        fixes = sum(difference.kind == BUG_FIX for difference in DIFFERENCES.values())
        terminalreporter.write_line(
            f"twins: {len(DIFFERENCES)} differences from psycopg2.pool: {fixes} bug fixes, "
            f"{len(DIFFERENCES) - fixes} on purpose (tests/twins/differences.py)"
        )
