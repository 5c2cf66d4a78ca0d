"""Row 26: the program is killed with SIGKILL; its sessions do not outlive it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from asking import ask
from pains.processes import begin
from pains.sessions import administrator, backends, kill
from servers import import_or_skip
from unit.threads import eventually

import_or_skip("psycopg2")
pytestmark = pytest.mark.fault(26)
DOCS = Path(__file__).resolve().parents[2] / "docs"
CHECK = "client_connection_check_interval"

KILLED = """
import threading
from dbpool import ThreadedConnectionPool

def run(query):
    with pool.connection() as conn:
        conn.cursor().execute(query)

pool = ThreadedConnectionPool(4, 4, {dsn!r}, application_name="killed", options={options!r})
conn = pool.getconn()
conn.cursor().execute("SELECT 1")  # a transaction is open
threading.Thread(target=run, args=("SELECT pg_sleep(60)",)).start()
"""


def asleep(cluster):
    """Return the sessions that are in the midst of a statement, or None if there are none."""
    with administrator(cluster) as conn:
        theirs = "application_name = 'killed' AND wait_event = 'PgSleep'"
        return ask(conn, f"SELECT array_agg(pid) FROM pg_stat_activity WHERE {theirs}")


@pytest.mark.parametrize("way", ["dsn", "tcp_dsn"])
@pytest.mark.parametrize("interval", ["100ms", "0"])
def test_sessions_of_a_program_that_was_killed_end_and_a_running_one_as_soon_as_it_looks(
    town, tmp_path, way, interval
):  # fmt: skip
    dsn, options = getattr(town, way), f"-c {CHECK}={interval}"
    script = tmp_path / "script.py"
    script.write_text(KILLED.format(dsn=dsn, options=options), encoding="utf-8")
    with begin(script) as process:
        eventually(lambda: asleep(town) and len(backends(town, "killed")) == 4)
        running = set(asleep(town))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if interval == "0":  # nobody looks
        eventually(lambda: backends(town, "killed") == running)
        kill(town, running)
    eventually(lambda: not backends(town, "killed"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_docs_have_the_recipe(language):
    assert f"{CHECK} = 10s" in (DOCS / language / "healing.md").read_text(encoding="utf-8")
