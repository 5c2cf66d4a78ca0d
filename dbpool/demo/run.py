"""One run of the demo from beginning to end: the bank, the pool, the work, the checks."""

from __future__ import annotations

import signal
import sys

from dbpool.demo.bank import Bank, bank_for
from dbpool.demo.report import checks, figures
from dbpool.demo.screen import PlainScreen, new_screen
from dbpool.demo.work import Options, Work

OK, FAILED, INTERRUPTED = 0, 1, 130
TICK = 0.1  # seconds between two looks at the work


class CtrlC:
    """While it is entered, the first Ctrl-C is only noted: there is tidying up to do. The next interrupts."""

    pressed = False

    def __enter__(self) -> CtrlC:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, *_: object) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run(dsn: str | None, options: Options) -> int:
    """Run the demo; return 0, or 1 if something failed, or 130 if all was well until Ctrl-C.

    Raises ModuleNotFoundError if the driver for *dsn* is not installed.
    """
    bank = bank_for(dsn)
    try:
        with CtrlC() as ctrl_c, bank.opened():
            return _run_on(bank, options, ctrl_c)
    except bank.error as exc:
        _complain(bank, exc)
        return FAILED


def _run_on(bank: Bank, options: Options, ctrl_c: CtrlC) -> int:
    print(f"{options.threads} threads share {options.connections} connections: {bank.name}", flush=True)
    screen = new_screen()
    with bank.new_pool(options.connections) as pool:
        work = Work(pool, bank, options)
        try:
            work.start()
            with screen:
                _watch(work, screen, ctrl_c)
        finally:
            work.stop()
        seconds, stats = work.elapsed, pool.stats()
    for error in work.errors:
        _complain(bank, error)
    found = checks(work, stats, bank)
    screen.table("Stopped by Ctrl-C" if ctrl_c.pressed else "Done", figures(work, stats, seconds), found)
    if not all(check.passed for check in found):
        return FAILED
    return INTERRUPTED if ctrl_c.pressed else OK


def _watch(work: Work, screen: PlainScreen, ctrl_c: CtrlC) -> None:
    """Show how it goes until all threads have ended."""
    screen.progress(work)
    while not work.wait(TICK):
        if ctrl_c.pressed:
            work.stop()
        screen.progress(work)
    screen.progress(work)


def _complain(bank: Bank, error: BaseException) -> None:
    print(f"dbpool demo: {bank.explain(error)}", file=sys.stderr)
