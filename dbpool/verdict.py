"""Verdict: is it the pool, the database or a leak? One line and a code, from what a pool knows of itself.

No lock, no clock and no I/O in this file: what is judged is gathered by the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.escaping import escaped
from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from dbpool.holders import PoolUser
    from dbpool.stats import PoolStats
    from dbpool.tally import Tally

HEALTHY, EXHAUSTED, REFUSES, SLOW = "healthy", "exhausted", "database_refuses", "database_slow"
LEAK, MISCONFIGURED, CLOSED = "leak_suspected", "misconfigured", "closed"
CODES = (HEALTHY, EXHAUSTED, REFUSES, SLOW, LEAK, MISCONFIGURED, CLOSED)
RECENT = 60.0  # seconds for which what happened once still counts
LONG_CONNECT = 1.0  # seconds after which one that is under way is slow
LONG_ANSWER = 1.0  # seconds after which a caller waits for the database, rather than uses it
LONG_HOLD = 30.0  # seconds after which a lease is suspected, if leak_threshold does not say
NAMED = 3  # holders in a line
FULL = ("too many clients", "too many connections", "remaining connection slots")  # what a server says that is full


class Verdict(Frozen):
    """What is the matter with a pool. ``str()`` is the line."""

    __slots__ = ("code", "place", "pool", "since", "text", "who")

    pool: str
    code: str  # one of CODES
    text: str
    since: float | None  # for how many seconds it has been so, if that is known
    who: tuple[PoolUser, ...]  # who holds the connections that it is about, the longest first
    place: str | None  # where in the program, if that is known

    def __str__(self) -> str:
        return escaped(f"{self.pool}: {self.code}: {self.text}")


class Facts:
    """What is judged."""

    def __init__(
        self, stats: PoolStats, tally: Tally, now: float, leases: list[tuple[PoolUser, bool]], *,
        waited: float | None = None, connecting: float | None = None, full_since: float | None = None,
        threshold: float | None = None, misfit: str | None = None,
    ) -> None:  # fmt: skip
        self.stats = stats
        self.tally = tally
        self.now = now
        self.leases = leases  # the longest first; who, and whether the connection waits for the database's answer
        self.waited = waited  # for how long the first in line waits
        self.connecting = connecting  # for how long the oldest connect is under way
        self.full_since = full_since  # since when, by the history, none is free and somebody waits
        self.threshold = threshold  # leak_threshold
        self.misfit = misfit  # what of the options does not suit the server

    def verdict(self, code: str, text: str, since: float | None = None, who: Any = (), place: Any = None) -> Verdict:
        return Verdict(pool=self.stats.name, code=code, text=text, since=since, who=tuple(who), place=place)

    def ago(self, moment: float | None) -> float | None:
        return None if moment is None else max(0.0, self.now - moment)

    def is_recent(self, moment: float | None) -> bool:
        return moment is not None and self.now - moment < RECENT


def judge(facts: Facts) -> Verdict:
    """Return the first that is so of: closed, no connecting, none free, a leak, slow, misconfigured, healthy."""
    for rule in (_closed, _connecting_fails, _exhausted, _leak, _slow, _misconfigured):
        found = rule(facts)
        if found is not None:
            return found
    stats = facts.stats
    text = f"{stats.used} of {stats.maxconn} in use, {stats.idle} idle, {stats.waiting} waiting"
    return facts.verdict(HEALTHY, text)


def _closed(facts: Facts) -> Verdict | None:
    return facts.verdict(CLOSED, "the pool was closed") if facts.stats.closed else None


def _connecting_fails(facts: Facts) -> Verdict | None:
    """No connect has come about since one failed, and one is wanted, or was just now."""
    stats, tally = facts.stats, facts.tally
    wanted = stats.waiting or stats.size < stats.minconn or facts.is_recent(tally.failed_at)
    if tally.failing_since is None or not wanted or stats.used >= stats.maxconn:
        return None
    since = facts.ago(tally.failing_since)
    told = f"for {since:.1f} s: {stats.last_error}"
    if tally.refusal == "timeout":
        return facts.verdict(SLOW, f"connecting takes longer than it may, {told}", since)
    if tally.refusal == "permanent":
        return facts.verdict(MISCONFIGURED, f"the database refuses whatever we try, {told}", since)
    if stats.used + stats.idle and any(words in str(stats.last_error) for words in FULL):
        size = stats.used + stats.idle
        text = f"maxconn is {stats.maxconn}, and the database lets us have {size}, {told}"
        return facts.verdict(MISCONFIGURED, text, since)
    return facts.verdict(REFUSES, f"no connection can be opened, {told}", since)


def _exhausted(facts: Facts) -> Verdict | None:
    """None is free, and somebody waits, or got nothing just now."""
    stats, tally = facts.stats, facts.tally
    if stats.idle or stats.connecting or not (stats.waiting or facts.is_recent(tally.timed_out_at)):
        return None
    if not facts.leases or not (stats.waiting or stats.used >= stats.maxconn):
        return None
    waits = [each for each in (facts.waited, facts.ago(facts.full_since)) if each is not None]
    since = max(waits, default=None) if waits else facts.ago(tally.timed_out_at)
    line = f"all {stats.used} connections are in use, {stats.waiting} callers wait"
    line += "" if facts.waited is None else f", the first for {facts.waited:.1f} s"
    busy = [user for user, is_busy in facts.leases if is_busy and user.seconds >= LONG_ANSWER]
    if 2 * len(busy) > len(facts.leases):
        text = f"{line}; {len(busy)} of {stats.used} wait for the database's answer: {_named(busy)}"
        return facts.verdict(SLOW, text, since, busy, _place(busy))
    held = _held_for_long(facts, facts.threshold or LONG_HOLD)
    if 2 * len(held) > len(facts.leases):
        text = f"{line}; {len(held)} of {stats.used} were not put back: {_named(held)}"
        return facts.verdict(LEAK, text, since, held, _place(held))
    users = [user for user, _ in facts.leases]
    return facts.verdict(EXHAUSTED, f"{line}; held by {_named(users)}", since, users, _place(users))


def _leak(facts: Facts) -> Verdict | None:
    """A connection was dropped of late, or is held for longer than leak_threshold."""
    held = [] if facts.threshold is None else _held_for_long(facts, facts.threshold)
    if held:
        text = f"{len(held)} connections are held for longer than leak_threshold: {_named(held)}"
        return facts.verdict(LEAK, text, held[0].seconds, held, _place(held))
    told = facts.tally.last_leak
    if told is not None and facts.is_recent(told[0]):
        return facts.verdict(LEAK, told[1], facts.ago(told[0]), (), told[2])
    return None


def _slow(facts: Facts) -> Verdict | None:
    """A connect takes long, or something was not answered of late."""
    if facts.connecting is not None and facts.connecting >= LONG_CONNECT:
        usual = facts.stats.connect_times.percentile(50)
        usually = "" if usual is None else f" (others took {usual:.3f} s)"
        text = f"a connect is under way for {facts.connecting:.1f} s{usually}"
        return facts.verdict(SLOW, text, facts.connecting)
    if facts.is_recent(facts.tally.cut_off_at):
        ago = facts.ago(facts.tally.cut_off_at)
        return facts.verdict(SLOW, f"{ago:.1f} s ago it did not answer within check_timeout", ago)
    return None


def _misconfigured(facts: Facts) -> Verdict | None:
    return None if facts.misfit is None else facts.verdict(MISCONFIGURED, facts.misfit)


def _held_for_long(facts: Facts, threshold: float) -> list[PoolUser]:
    return [user for user, is_busy in facts.leases if user.seconds >= threshold and not is_busy]


def _named(users: list[PoolUser]) -> str:
    more = f", and {len(users) - NAMED} more" if len(users) > NAMED else ""
    return ", ".join(map(str, users[:NAMED])) + more


def _place(users: list[PoolUser]) -> str | None:
    """Return where the most of them got theirs, or else where the most of them stand."""
    places = [user.site or user.at for user in users]
    known = [place for place in places if place]
    return max(known, key=known.count, default=None)
