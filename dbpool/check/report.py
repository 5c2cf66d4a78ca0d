"""The report of a check: rows to read, the sizes that fit, the findings, and a PoolConfig to paste."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool.advice import OTHERS, VERSIONS, Deployment, Finding, fitting, lint, room, suggested
from dbpool.config import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbpool.check.found import Found

ALWAYS = ("timeout", "connect_timeout", "idle_timeout", "max_lifetime", "check_timeout")  # shown, also if as by default
WORKERS = (1, 2, 4, 8, 16, 32)
POOLERS = {
    None: "not known: this server does not tell",
    "direct": "none: the server itself answers",
    "transaction": "with transaction pooling: each transaction may get another session",
    "session": "each client has a session to itself, as far as can be seen (session pooling)",
    "statement": "with statement pooling: no transactions",
    "unknown": "perhaps with transaction pooling",
}


class Report(NamedTuple):
    """What a check has to say. The *findings* are on the sizes that were given, else on those that are suggested."""

    found: Found
    around: Deployment
    minconn: int
    maxconn: int
    config: PoolConfig
    findings: list[Finding]

    def is_well(self) -> bool:
        """True if there is nothing above a note."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return what --json prints."""
        fits = fitting(self.found.facts, self.around.workers)
        return {
            "reachable": True,
            **self.found.as_json(),
            "deployment": self.around._asdict(),
            "room": room(self.found.facts),
            "fitting": fits,
            "findings": [finding._asdict() for finding in self.findings],
            "suggested": {"minconn": self.minconn, "maxconn": self.maxconn, "config": self.options()},
            "code": self.code(),
        }

    def options(self) -> dict[str, Any]:
        """Return the options to be shown: the principal ones, and those that are not as by default."""
        ours, default = self.config._asdict(), PoolConfig()._asdict()
        return {name: value for name, value in ours.items() if name in ALWAYS or value != default[name]}

    def code(self) -> str:
        """Return the suggestion as Python that can be pasted."""
        options = "".join(f"    {name}={value!r},\n" for name, value in self.options().items())
        pool = f"ThreadedConnectionPool({self.minconn}, {self.maxconn}, dsn"
        if self.found.twin is not None:
            head = f"from dbpool import PoolConfig\nfrom {self.found.twin} import ThreadedConnectionPool\n"
        else:
            driver = self.found.facts.driver
            head = f"import {driver}\nfrom dbpool import PoolConfig, ThreadedConnectionPool\n"
            pool += f", connect={driver}"
            if driver == "psycopg" and _is_pooled(self.found):
                pool += ", prepare_threshold=None"
        made = f"\n\ndef new_pool(dsn):\n    return {pool}, config=config)\n"
        return f"{head}\nconfig = PoolConfig(\n{options})\n{made}"


def report(found: Found, config: PoolConfig, around: Deployment, given: tuple[int, int] | None) -> Report:
    """Return the report; *given* are the minconn and maxconn that somebody has, with *config*."""
    minconn, maxconn, better = suggested(config, around, found.facts)
    if given is None:
        findings = lint(better, minconn, maxconn, around, found.facts)
    else:
        findings = lint(config, *given, around, found.facts)
    return Report(found, around, minconn, maxconn, better, findings)


def rows(found: Found) -> list[tuple[str, str]]:
    """Return what was found, as names and texts."""
    facts = found.facts
    limit = "none" if facts.own_limit is None else str(facts.own_limit)
    return [
        ("server", found.server),
        ("driver", found.driver),
        ("connect", _times(found.connects)),
        ("round trip", _times(found.trips)),
        ("connections", _connections(found)),
        ("limit of this user or database", limit),
        ("takes writes", {True: "no", False: "yes", None: "not known"}[facts.read_only]),
        *found.more.items(),
        ("pooler", _pooler(found)),
        *((name, f"{value:g} s" if value else "not set") for name, value in found.settings.items()),
    ]


def sizes(found: Found, around: Deployment) -> list[tuple[int, int]]:
    """Return, for some numbers of workers, the largest maxconn that fits; none if nobody knows."""
    fits = ((workers, fitting(found.facts, workers)) for workers in sorted({*WORKERS, around.workers}))
    return [(workers, maxconn) for workers, maxconn in fits if maxconn is not None]


def basis(found: Found) -> str:
    """Return what the sizes are reckoned from."""
    others = max(OTHERS, found.facts.others or 0)
    left = room(found.facts)
    return f"{left} connections are there for pools, {others} left to others; counted {VERSIONS} times, for a roll-out"


def _times(seconds: Sequence[float]) -> str:
    worst, middle = 1000 * max(seconds), 1000 * median(seconds)
    return f"{middle:.2f} ms (median of {len(seconds)}), {worst:.2f} ms at worst"


def _connections(found: Found) -> str:
    facts = found.facts
    if facts.max_connections is None:
        return "not known"
    used = "not known how many" if facts.used is None else str(facts.used)
    others = "" if facts.others is None else f", {facts.others} by other users"
    return f"{used} in use{others}; max_connections {facts.max_connections}, {facts.reserved} of them reserved"


def _is_pooled(found: Found) -> bool:
    return found.facts.pooling not in (None, "direct")


def _pooler(found: Found) -> str:
    said = POOLERS[found.facts.pooling]
    return f"{found.pooler or 'perhaps PgBouncer, or its like'}; {said}" if _is_pooled(found) else said
