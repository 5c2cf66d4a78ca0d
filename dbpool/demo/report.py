"""The demo's result: the figures that it prints, and the checks that it must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbpool.demo.bank import ACCOUNTS, OPENING_BALANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbpool import PoolStats
    from dbpool.demo.bank import Bank
    from dbpool.demo.work import Work


class Check(NamedTuple):
    """Something that must hold at the end."""

    name: str
    found: str
    passed: bool


def figures(work: Work, stats: PoolStats, seconds: float) -> list[tuple[str, str]]:
    """Return the rows of the table: what was counted, and how much of it."""
    waits = sorted(wait for teller in work.tellers for wait in teller.tally.waits)
    turns = work.turns()
    p50, p99, longest = (f"{1000 * percentile(waits, share):.2f}" for share in (0.5, 0.99, 1.0))
    refusals, mishaps = work.count("refusals"), work.count("mishaps")
    rows = [
        ("connections opened", f"{stats.opened} (at most {stats.maxconn} at once)"),
        ("leases", f"{stats.leases}"),
        ("waits, p50 / p99 / max", f"{p50} / {p99} / {longest} ms"),
        ("turns per thread, min / max", f"{min(turns)} / {max(turns)}"),
        ("commits", f"{work.count('commits')}"),
        ("rollbacks", f"{refusals + mishaps} ({refusals} short of money, {mishaps} on purpose)"),
    ]
    if work.count("busy"):
        rows.append(("not begun: database locked", f"{work.count('busy')}"))
    return [*rows, ("time", f"{seconds:.1f} s")]


def checks(work: Work, stats: PoolStats, bank: Bank) -> list[Check]:
    """Compare what the threads counted with what the database and the pool say."""
    start, total = ACCOUNTS * OPENING_BALANCE, bank.total()
    commits, logged = work.count("commits"), bank.logged()
    return [
        Check("money at the end / at the start", f"{total} / {start}", total == start),
        Check("transfers in the log / committed", f"{logged} / {commits}", logged == commits),
        Check("connections not back in the pool", f"{stats.used}", stats.used == 0),
        Check("threads that failed", f"{len(work.errors)}", not work.errors),
    ]


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the value below which *share* of them lie; 0 if there is none."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else 0.0
