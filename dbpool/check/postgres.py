"""What is asked of a PostgreSQL, or of a KingbaseES, and whether a pooler stands before it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dbpool.advice import Facts
from dbpool.check.found import Found
from dbpool.check.session import NAME, Unreachable

if TYPE_CHECKING:
    from dbpool.check.session import Session
    from dbpool.check.source import Source

# Limits and keepalives -> the version that brought each. An older server would note an error in its log.
SETTINGS = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 90600,
    "idle_session_timeout": 140000,
    "tcp_keepalives_idle": 0,
    "tcp_keepalives_interval": 0,
    "tcp_user_timeout": 120000,
}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
CLIENTS = (
    "SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend'"
    f" AND datid IS NOT NULL AND application_name <> '{NAME}'"
)
ROLE_LIMIT = "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
DATABASE_LIMIT = "SELECT datconnlimit FROM pg_database WHERE datname = current_database()"
BACKEND = "SELECT pg_backend_pid()"
PATIENCE = 1.0  # seconds for a pooler to give a client a session: it may have too few


def ask(session: Session, conn: Any, source: Source) -> Found:
    """Return what the server tells."""
    version = str(session.ask(conn, "SELECT version()"))
    number = _whole(session.try_to_ask(conn, "SHOW server_version_num")) or 0
    settings = _settings(session, conn, number)
    pooling = _pooling(session, conn)
    facts = _facts(session, conn, version, number)._replace(
        driver=source.driver,
        pooling=pooling,
        idle_limit=settings.get("idle_session_timeout"),
        idle_in_transaction_limit=settings.get("idle_in_transaction_session_timeout"),
        statement_limit=settings.get("statement_timeout"),
    )
    return Found(
        server=re.split(r" on |,", version)[0],
        driver=source.label(),
        twin=source.twin,
        connects=[],
        trips=[],
        facts=facts,
        pooler=None if pooling in (None, "direct") else _name_of_the_pooler(session),
        settings=settings,
        more=_more(session, conn, version),
    )


def _settings(session: Session, conn: Any, number: int) -> dict[str, float]:
    found = {}
    for name, since in SETTINGS.items():
        text = session.try_to_ask(conn, f"SHOW {name}") if number >= since else None
        value = seconds_in(str(text))
        if value is not None:
            found[name] = value
    return found


def seconds_in(text: str) -> float | None:
    """Return the seconds in the text of a setting ("5min"); None if there are none."""
    found = re.fullmatch(r"(\d+)\s*([a-z]*)", text)
    return int(found[1]) * UNITS[found[2]] if found and found[2] in UNITS else None


def _facts(session: Session, conn: Any, version: str, number: int) -> Facts:
    def whole(query: str) -> int | None:
        value = session.try_to_ask(conn, query)
        if value is None and "kingbase" in version.lower():  # which may have them under its own names only
            value = session.try_to_ask(conn, query.replace("pg_", "sys_"))
        return _whole(value)

    reserved = (whole("SHOW superuser_reserved_connections") or 0) if number else 0
    if number >= 160000:
        reserved += whole("SHOW reserved_connections") or 0
    limits = [limit for limit in (whole(ROLE_LIMIT), whole(DATABASE_LIMIT)) if limit is not None and limit >= 0]
    return Facts(
        max_connections=whole("SHOW max_connections"),
        reserved=reserved,
        used=whole(CLIENTS),
        others=whole(f"{CLIENTS} AND usename <> current_user"),
        own_limit=min(limits, default=None),
        read_only={"on": True, "off": False}.get(session.try_to_ask(conn, "SHOW transaction_read_only")),
    )


def _more(session: Session, conn: Any, version: str) -> dict[str, str]:
    standby = session.try_to_ask(conn, "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END")
    default = session.try_to_ask(conn, "SHOW default_transaction_read_only")
    more = {"role": str(standby or "not known"), "default_transaction_read_only": str(default or "not known")}
    if "kingbase" in version.lower():
        more["database_mode"] = str(session.try_to_ask(conn, "SHOW database_mode") or "not known")
    return more


def _whole(value: Any) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"-?\d+", str(value)) else None


# ---- a pooler between ----------------------------------------------------------------------------------------------


def _pooling(session: Session, conn: Any) -> str | None:
    """Tell whether a pooler stands between.

    A server names its process when it lets a client in, so that statements can be cancelled. A pooler, whose sessions
    change hands, must name something of its own: PgBouncer draws a random number for each client.
    """
    own = _whole(session.try_to_ask(conn, BACKEND))
    told = conn.get_backend_pid() if hasattr(conn, "get_backend_pid") else conn.info.backend_pid
    if not own or own < 0 or not told:  # something that speaks the protocol, and has no processes
        return None
    return "direct" if own == told else _pooling_of_two(session)


def _pooling_of_two(session: Session) -> str:
    """Tell by two clients whether each transaction may get another session.

    While the first is in a transaction, its session cannot be given to the second. When that has ended, both are free:
    a pooler that lends for a transaction gives the second now the one, now the other.
    """
    try:
        with session.opened() as first, session.opened() as second:
            session.ask(first, BACKEND, PATIENCE)
            if not _begins(session, first):
                return "statement"
            session.ask(first, BACKEND, PATIENCE)
            before = session.ask(second, BACKEND, PATIENCE)
            session.tell(first, "COMMIT", PATIENCE)
            after = [session.ask(second, BACKEND, PATIENCE) for _ in range(2)]
            return "session" if after == [before, before] else "transaction"
    except (Unreachable, session.error):  # it has too few
        return "unknown"


def _begins(session: Session, conn: Any) -> bool:
    """Begin a transaction. False if that is refused: then the connection is cut, and not every driver is told why."""
    try:
        session.tell(conn, "BEGIN", PATIENCE)
    except session.error:
        return False
    return True


def _name_of_the_pooler(session: Session) -> str | None:
    """Ask PgBouncer's console, which those may who are its admin_users or stats_users."""
    try:
        with session.opened(dbname="pgbouncer") as console:
            return str(session.ask(console, "SHOW VERSION"))
    except (Unreachable, session.error):
        return None
