"""What is asked of a MySQL or a MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.advice import Facts
from dbpool.check.found import Found

if TYPE_CHECKING:
    from dbpool.check.session import Session
    from dbpool.check.source import Source

# MariaDB has the first, MySQL the second, which not everybody may read.
CONNECTED = (
    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'THREADS_CONNECTED'",
    "SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Threads_connected'",
)
OURS = "SELECT count(*) FROM information_schema.processlist WHERE user = substring_index(user(), '@', 1)"
# A statement's limit: MariaDB's in seconds, MySQL's (of SELECTs) in milliseconds.
LIMITS = (("SELECT @@max_statement_time", 1.0), ("SELECT @@max_execution_time", 1e-3))


def ask(session: Session, conn: Any, source: Source) -> Found:
    """Return what the server tells."""

    def number(query: str) -> float | None:
        value = session.try_to_ask(conn, query)
        return None if value is None else float(value)

    version = str(session.ask(conn, "SELECT version()"))
    read_only = str(session.try_to_ask(conn, "SELECT @@global.read_only")) in ("1", "ON")
    limits = ((number(query), unit) for query, unit in LIMITS)
    statement = next((value * unit for value, unit in limits if value is not None), None)
    waits = {name: number(f"SELECT @@{name}") for name in ("wait_timeout", "interactive_timeout", "net_read_timeout")}
    settings = {name: value for name, value in waits.items() if value is not None}
    connected = next((max(0, int(value) - 1) for value in map(number, CONNECTED) if value is not None), None)
    ours = number(OURS)
    facts = Facts(
        driver=source.driver,
        max_connections=_whole(number("SELECT @@max_connections")),
        used=connected,  # without the one that asks
        others=None if connected is None or ours is None else max(0, connected + 1 - int(ours)),
        own_limit=_whole(number("SELECT @@max_user_connections")) or None,
        idle_limit=settings.get("wait_timeout"),
        idle_setting="wait_timeout",
        statement_limit=statement,
        read_only=read_only,
    )
    kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    return Found(f"{kind} {version}", source.label(), None, [], [], facts, None, settings, {})


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
