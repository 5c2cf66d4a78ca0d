"""A load with the monitor page: two pools, in use until Ctrl-C; and trouble, if that is wished for."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool.demo.bank import Bank, bank_for
from dbpool.demo.run import CtrlC
from dbpool.demo.trouble import Trouble, outage_of
from dbpool.demo.visitors import Visitors, report, transfer
from dbpool.monitor import pool_monitor
from dbpool.monitor.server import PORT

if TYPE_CHECKING:
    from dbpool import ThreadedConnectionPool
    from dbpool.monitor import PoolMonitor

OK, FAILED = 0, 1
TICK = 0.25  # seconds between two looks
WIDTH = 150  # characters of a verdict; the page has all of it
ORDERS, REPORTS = 6, 3  # connections
VISITORS, REPORTERS = 4, 2
CONFIG = {
    "timeout": 2.0, "idle_timeout": 20.0, "max_lifetime": 90.0, "check_timeout": 3.0, "leak_threshold": 5.0,
    "trace": True,
}  # fmt: skip


class Show(NamedTuple):
    """What the command line asks for."""

    port: int | None = None
    seconds: float | None = None
    trouble: bool = False
    actions: bool = False


def run(dsn: str | None, show: Show) -> int:
    """Run load and page until the time is up, or Ctrl-C; return 0, or 1 if the database or the port cannot be had.

    Raises ModuleNotFoundError if the driver for *dsn* is not installed.
    """
    bank = bank_for(dsn)
    logging.getLogger("dbpool").addHandler(logging.NullHandler())  # the page shows what happens
    try:
        with CtrlC() as ctrl_c, bank.opened(), ExitStack() as stack:
            _run_on(bank, show, ctrl_c, stack)
    except bank.error as exc:
        print(f"dbpool monitor: {bank.explain(exc)}", file=sys.stderr)
        return FAILED
    except OSError as exc:
        print(f"dbpool monitor: port {show.port}: {exc.strerror}; --port 0 takes any that is free", file=sys.stderr)
        return FAILED
    return OK


def _run_on(bank: Bank, show: Show, ctrl_c: CtrlC, stack: ExitStack) -> None:
    outage = outage_of(bank) if show.trouble else None
    orders = stack.enter_context(closing(bank.new_pool(ORDERS, name="orders", **CONFIG)))
    reports = stack.enter_context(closing(bank.new_pool(REPORTS, name="reports", **CONFIG)))
    monitor = stack.enter_context(_opened(show))
    print(f"{bank.name}, in use by threads. The monitor: {monitor.url}", flush=True)
    print(f"In a terminal: python -m dbpool top {monitor.url}   Ctrl-C ends it.", flush=True)
    load = [
        Visitors("visitor", VISITORS, transfer(orders, bank, 0.04), 0.1, bank.error),
        Visitors("reporter", REPORTERS, report(reports, bank, 0.2), 1.0, bank.error),
    ]
    for visitors in load:
        stack.callback(visitors.stop)
        visitors.start()
    if outage is not None:
        trouble = Trouble(orders, [reports], bank, outage, _say)
        stack.callback(trouble.stop)
        trouble.start()
    _watch([orders, reports], show.seconds, ctrl_c)


def _opened(show: Show) -> PoolMonitor:
    """Return the page; on any port, if none was wished for and the usual one is taken."""
    try:
        return pool_monitor(PORT if show.port is None else show.port, actions=show.actions)
    except OSError:
        if show.port is not None:
            raise
        return pool_monitor(0, actions=show.actions)


def _watch(pools: list[ThreadedConnectionPool[Any]], seconds: float | None, ctrl_c: CtrlC) -> None:
    """Say what becomes of the pools, until the time is up or somebody presses Ctrl-C."""
    ends = None if seconds is None else time.monotonic() + seconds
    codes: dict[str, str] = {}
    while not ctrl_c.pressed and (ends is None or time.monotonic() < ends):
        for pool in pools:
            verdict = pool.verdict()
            if codes.setdefault(pool.name, "healthy") != verdict.code:
                codes[pool.name] = verdict.code
                _say(f"  {verdict}"[:WIDTH])
        time.sleep(TICK)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
