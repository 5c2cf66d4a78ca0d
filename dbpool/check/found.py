"""Found: all that a check has learnt of a server, as a value that passes through JSON unchanged."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from dbpool.advice import Facts


class Found(NamedTuple):
    """What was measured and asked.

    server, driver   names with versions
    twin             the module whose pools take such a DSN as it is; None: dbpool's, with connect=
    connects, trips  seconds that each connect, each round trip took
    facts            what advice looks at
    pooler           its name and version, if it tells; else None
    settings         name -> seconds: the server's limits and keepalives; 0: none
    more             what else is shown: name -> text
    """

    server: str
    driver: str
    twin: str | None
    connects: list[float]
    trips: list[float]
    facts: Facts
    pooler: str | None
    settings: dict[str, float]
    more: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return dicts, lists, texts and numbers."""
        return {**self._asdict(), "facts": self.facts._asdict()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Found:
        """Return what as_json() was called on."""
        return cls(**{**value, "facts": Facts(**value["facts"])})


def timed(facts: Facts, connects: list[float], trips: list[float]) -> Facts:
    """Return *facts* with what the measurements say."""
    return facts._replace(connecting=max(connects), round_trip=median(trips))
