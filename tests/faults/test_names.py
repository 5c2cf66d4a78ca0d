"""Row 15: the server's name leads elsewhere, is not known, or is looked up slowly: in the system's own resolver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import new_cluster
from servers import import_or_skip, require_or_skip

from .resolving import HOST, NEW, OLD

import_or_skip("psycopg2")
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def resolving():
    """Runs a case of resolving.py in a mount namespace of its own; where there can be none, skips the test."""
    if not shutil.which("unshare") or os.geteuid() != 0 or subprocess.call(["unshare", "-m", "true"]):
        require_or_skip("mountns", "this takes root, and the right to make mount namespaces")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*arguments):
        command = ["unshare", "-m", sys.executable, "-m", "faults.resolving", *arguments]
        environ = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, check=False, capture_output=True, env=environ, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def server(installation):
    """A server that has two addresses."""
    with new_cluster(installation, listen_addresses=f"{OLD},{NEW}") as cluster:
        yield cluster.start()


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("case", "driver"),
    [("moved", "psycopg2"), ("unknown", "psycopg2"), *(("slow", name) for name in ("psycopg2", "ksycopg2", "psycopg"))],
)
def test_a_pool_bears_what_befalls_the_name_of_its_server(server, resolving, case, driver):
    import_or_skip(driver)
    dsn = server.tcp_dsn.replace(f"host={OLD}", f"host={HOST}")
    assert resolving(case, driver, dsn) == "good\n"
