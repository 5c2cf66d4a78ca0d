"""Checks a history: what no run of a pool may show. Pure: events in, violations out.

It accuses nobody wrongly. A get counts from the moment when it had returned, a put from the moment before it was
called: so what is taken for a lease lies within the real one. What an interrupt cut off is unknown, and unknown may be
either.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .events import Event

SLACK = 2.0  # seconds that a call may take longer than it said: the machine may be busy with other things
FOR_EVER = float("inf")


class Violation(NamedTuple):
    """A rule that was broken, and how."""

    rule: str
    at: float
    text: str


class Lease:
    """One attempt to get a connection, and what became of it."""

    __slots__ = (
        "answered", "asked", "call", "conn", "done", "got", "interrupted", "left", "pid", "pool", "puts", "refused",
        "thread", "timeout", "token", "within", "wrote",
    )  # fmt: skip

    def __init__(self, event: Event) -> None:
        self.pool, self.thread, self.call = event.pool, event.thread, event.call
        self.asked, self.timeout = event.at, event.data
        self.got = self.interrupted = False
        self.answered = self.left = self.done = None
        self.conn = self.pid = self.puts = 0
        self.within: float | None = None  # seconds in which its put has to end
        self.token: str | None = None
        self.refused: str | None = None  # what getconn raised
        self.wrote = "nothing"

    @property
    def end(self) -> float:
        """Until when it was held for sure; the last moment known, if its end was cut off by an interrupt."""
        if self.left is not None:
            return self.left
        return self.answered if self.interrupted else FOR_EVER

    def __str__(self) -> str:
        who = f"pool {self.pool}, thread {self.thread}, connection {self.conn}, backend {self.pid}"
        return f"lease {self.call} ({who})"


class Story:
    """The leases that a history tells of, the limits that were in force, and who was seen in line."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.leases: list[Lease] = []
        self.violations: list[Violation] = []
        self.limits: dict[int, list[list[float]]] = defaultdict(list)  # by pool: [asked for, done, maxconn]
        self.lines: list[Event] = []
        self.standstills: dict[int, list[tuple[float, float]]] = defaultdict(list)  # by pool: when its loop stood still
        self._now: dict[tuple[int, int], Lease] = {}  # by pool and thread
        for event in events:
            self._add(event)
        for lease in self._now.values():
            self._finish(lease)

    def accuse(self, rule: str, at: float, text: str) -> None:
        self.violations.append(Violation(rule, at, text))

    def _add(self, event: Event) -> None:
        act = getattr(self, f"_{event.stage}_{event.op}", None)
        if act is None:
            self.accuse("crash", event.at, f"{event.stage} {event.op}: {event.data}")
        elif event.op in ("resize", "line", "blocked"):
            act(event)
        elif event.stage == "invoke" and event.op == "get":
            previous = self._now.get((event.pool, event.thread))
            if previous is not None:
                self._finish(previous)
            lease = self._now[event.pool, event.thread] = Lease(event)
            self.leases.append(lease)
        else:
            lease = self._now.get((event.pool, event.thread))
            if lease is not None and (event.op == "interrupt" or lease.call == event.call):
                act(event, lease)
            elif event.op != "interrupt":
                self.accuse("lease ended twice", event.at, f"{event.stage} {event.op} of call {event.call}, long over")

    # What each event says of its lease; named for its stage and op.

    def _invoke_get(self, event: Event, lease: Lease) -> None:
        """A new lease; it was made already."""

    def _ok_get(self, event: Event, lease: Lease) -> None:
        lease.got, lease.answered, lease.conn, lease.pid = True, event.at, event.conn, event.pid
        if event.data:
            self.accuse("not clean", event.at, f"{lease} was handed out {event.data}")

    def _fail_get(self, event: Event, lease: Lease) -> None:
        lease.answered, lease.refused = event.at, event.data

    def _invoke_write(self, event: Event, lease: Lease) -> None:
        lease.token, lease.wrote = event.data, "unknown"

    def _ok_read(self, event: Event, lease: Lease) -> None:
        if event.data != [lease.token, lease.token, lease.pid]:
            self.accuse("another's answer", event.at, f"{lease} wrote {lease.token!r} and read {event.data}")

    def _ok_write(self, event: Event, lease: Lease) -> None:
        lease.wrote = event.stage

    _fail_write = _unknown_write = _ok_write

    def _invoke_put(self, event: Event, lease: Lease) -> None:
        lease.puts += 1
        lease.left, lease.within = event.at, event.data
        if not lease.got or lease.puts > 1:
            self.accuse("lease ended twice", event.at, f"{lease} is put, and is not held")

    def _ok_put(self, event: Event, lease: Lease) -> None:
        if lease.done is not None:
            self.accuse("lease ended twice", event.at, f"{lease} was put twice")
        lease.done = event.at

    def _fail_put(self, event: Event, lease: Lease) -> None:
        lease.done = event.at
        self.accuse("putconn raised", event.at, f"{lease}: {event.data}")

    def _note_interrupt(self, event: Event, lease: Lease) -> None:
        lease.interrupted = True

    def _note_line(self, event: Event) -> None:
        self.lines.append(event)

    def _note_blocked(self, event: Event) -> None:
        self.standstills[event.pool].append((event.at - event.data, event.at))

    def _invoke_resize(self, event: Event) -> None:
        self.limits[event.pool].append([event.at, FOR_EVER, event.data])

    def _ok_resize(self, event: Event) -> None:
        self.limits[event.pool][-1][1] = event.at

    def _finish(self, lease: Lease) -> None:
        """The thread has gone on: what is open now stays open."""
        if lease.interrupted:
            return
        if lease.answered is None:
            self.accuse("call never ended", lease.asked, f"getconn of {lease}")
        elif lease.got and lease.left is None:
            self.accuse("lease never ended", lease.answered, str(lease))
        elif lease.left is not None and lease.done is None:
            self.accuse("call never ended", lease.left, f"putconn of {lease}")


def check(events: Iterable[Event], committed: Iterable[str], slack: float = SLACK) -> list[Violation]:
    """Return all that is wrong with a history, given the tokens that the database has at its end."""
    return judge(Story(events), committed, slack)


def judge(story: Story, committed: Iterable[str], slack: float = SLACK) -> list[Violation]:
    """Do what check() does with a history that was read already."""
    held = sorted((lease for lease in story.leases if lease.got), key=lambda lease: lease.answered)
    return [
        *story.violations,
        *two_holders(held, "connection", lambda lease: (lease.pool, lease.conn)),
        # A backend's number may be given to another one; but not while the first is held by another process.
        *two_holders(held, "backend", lambda lease: lease.pid, across=True),
        *over_limit(held, story.limits),
        *too_late(story.leases, slack, story.standstills),
        *wrong_tokens(story.leases, committed),
        *overtaken(story.leases, story.lines),
    ]


def two_holders(
    held: list[Lease], what: str, key: Callable[[Lease], Any], across: bool = False
) -> list[Violation]:  # fmt: skip
    """Nobody is given what another one holds; *across*: between processes only. *held* is in order."""
    found, last = [], {}
    for lease in held:
        before = last.get(key(lease))
        if before is not None and lease.answered < before.end and not (across and before.pool == lease.pool):
            found.append(Violation("two holders", lease.answered, f"one {what}: {before} and {lease}"))
        if before is None or lease.end >= before.end:
            last[key(lease)] = lease
    return found


def over_limit(held: list[Lease], limits: dict[int, list[list[float]]]) -> list[Violation]:
    """Never are more leased than maxconn.

    After a resize to less, those who hold one keep it. So of those who hold at the same time, the last one who was
    served was served within the limit of that moment: all together they are no more than the largest limit that was in
    force while any of them asked.
    """
    found = []
    leased: dict[int, list[tuple[float, float]]] = defaultdict(list)  # by pool: the end, the limit
    for lease in held:
        inside = [*(kept for kept in leased[lease.pool] if kept[0] > lease.answered)]
        inside.append((lease.end, _limit(limits[lease.pool], lease)))
        leased[lease.pool] = inside
        widest = max(limit for _, limit in inside)
        if len(inside) > widest:
            found.append(Violation("over maxconn", lease.answered, f"{lease} is number {len(inside)} of {widest:g}"))
    return found


def _limit(limits: list[list[float]], lease: Lease) -> float:
    """Return the largest limit in force while *lease* was asked for; one is until the next has come into force."""
    ends = [done for _, done, _ in limits[1:]] + [FOR_EVER]
    in_force = [limit for (asked, _, limit), end in zip(limits, ends) if asked <= lease.answered and end >= lease.asked]
    return max(in_force, default=0)


def too_late(
    leases: list[Lease], slack: float, standstills: dict[int, list[tuple[float, float]]] | None = None
) -> list[Violation]:
    """Every call ends by the time that it was given; while its loop is blocked, no call can end."""
    found = []
    for lease in leases:
        for what, began, ended, seconds in (
            ("getconn", lease.asked, lease.answered, lease.timeout),
            ("putconn", lease.left, lease.done, lease.within),
        ):
            if began is None or ended is None or seconds is None or ended - began <= seconds + slack:
                continue
            blocks = (standstills or {}).get(lease.pool, ())
            stood = sum(max(0.0, min(ended, end) - max(began, start)) for start, end in blocks)
            if ended - began - stood > seconds + slack:
                text = f"{what} of {lease} took {ended - began:.2f} s of {seconds:g}"
                found.append(Violation("call ended late", ended, text))
    return found


def wrong_tokens(leases: list[Lease], committed: Iterable[str]) -> list[Violation]:
    """What was acknowledged is there, once; what failed is not; of what nobody knows, either may be."""
    found = []
    there = Counter(committed)
    for lease in leases:
        if lease.token is None:
            continue
        times = there.pop(lease.token, 0)
        if times > 1:
            found.append(Violation("token twice", lease.asked, f"{lease.token!r} is there {times} times"))
        if lease.wrote == "ok" and not times:
            found.append(Violation("lost token", lease.asked, f"{lease.token!r} was acknowledged to {lease}"))
        if lease.wrote == "fail" and times:
            found.append(Violation("phantom token", lease.asked, f"{lease.token!r} of {lease} had failed"))
    return found + [Violation("phantom token", 0.0, f"nobody wrote {token!r}") for token in there]


def overtaken(leases: list[Lease], lines: list[Event]) -> list[Violation]:
    """Who comes later is not served while one waits who was in line before."""
    by_time = sorted(leases, key=lambda lease: lease.asked)
    times = [lease.asked for lease in by_time]
    found = []
    for first, second, waited in waits(leases, lines):
        later = by_time[bisect.bisect_right(times, first.at) : bisect.bisect_left(times, second.data["began"])]
        for lease in later:
            if lease.got and lease.pool == first.pool and lease.answered < second.data["began"]:
                for thread in waited:
                    text = f"thread {thread} waited from before {lease} asked until after it was served"
                    found.append(Violation("overtaken", lease.answered, text))
    return found


def waits(leases: list[Lease], lines: list[Event]) -> list[tuple[Event, Event, list[int]]]:
    """Return the pairs of looks at the line between which someone waited all the time, and who that was.

    Only pairs between which nothing was lost, closed or refused: who was given a dead connection stands at the head of
    the line again, and others are served meanwhile.
    """
    asked: dict[tuple[int, int], list[Lease]] = defaultdict(list)
    for lease in leases:
        asked[lease.pool, lease.thread].append(lease)
    begun = {key: [lease.asked for lease in theirs] for key, theirs in asked.items()}
    found = []
    for first, second in zip(lines, lines[1:]):
        if first.data["calm"] is None or first.data["calm"] != second.data["calm"]:
            continue
        waited = []
        for thread in set(first.data["line"]) & set(second.data["line"]):
            key = first.pool, thread
            number = bisect.bisect_left(begun.get(key, []), first.data["began"])
            if number == 0 or number != bisect.bisect_right(begun[key], second.at):  # it is another call
                continue
            answered = asked[key][number - 1].answered
            if answered is None or answered > second.at:
                waited.append(thread)
        if waited:
            found.append((first, second, waited))
    return found
