"""The probe: connects, measures, and has the questions of the server's kind asked."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from dbpool.check import mysql, postgres
from dbpool.check.found import Found, timed
from dbpool.check.session import Session, Unreachable, explained
from dbpool.check.source import MYSQL
from dbpool.masking import mask_error

if TYPE_CHECKING:
    from dbpool.check.source import Source

CONNECTS, TRIPS = 5, 20  # how often each is measured, if it is quick


def probe(source: Source, seconds: float) -> Found:
    """Return what there is to find, each call within *seconds*; raise Unreachable."""
    # What the pool logs of a failed connect is said once, by whoever asked.
    logging.getLogger("dbpool").addHandler(logging.NullHandler())
    with Session(source, seconds) as session:
        try:
            return _probe(session, source)
        except session.error as exc:
            mask_error(exc, source.args, source.kwargs)
            raise Unreachable(explained(exc)) from None


def _probe(session: Session, source: Source) -> Found:
    for _ in range(CONNECTS - 1):
        with session.opened():
            pass
        if session.is_hurried():
            break
    with session.opened() as conn:
        kind: Any = mysql if source.driver in MYSQL else postgres
        trips: list[float] = []
        session.bounded(conn, _measure, session, conn, trips)
        found: Found = kind.ask(session, conn, source)
        connects = session.connects[:CONNECTS]
    return found._replace(connects=connects, trips=trips, facts=timed(found.facts, connects, trips))


def _measure(session: Session, conn: Any, trips: list[float]) -> None:
    """Note how long each of some round trips takes; as many as can be had in half of the time for one call."""
    while len(trips) < TRIPS and sum(trips) < session.seconds / 2:
        began = time.perf_counter()
        session.connector._ask(conn, "SELECT 1")
        trips.append(time.perf_counter() - began)
