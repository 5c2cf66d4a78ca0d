"""What the demo shows: a live bar and a table with rich on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbpool.demo.report import Check
    from dbpool.demo.work import Work

LINE_EVERY = 1.0  # seconds between plain lines


class PlainScreen:
    """Lines of text, for files, pipes and terminals without rich."""

    def __init__(self) -> None:
        self._next_line = 0.0

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def progress(self, work: Work) -> None:
        """Show how far *work* has come; called often."""
        if work.elapsed >= self._next_line:
            self._next_line += LINE_EVERY
            print(f"{work.elapsed:5.1f} s  {work.fraction:4.0%}  {_done(work)}", flush=True)

    def table(self, title: str, rows: Sequence[tuple[str, str]], checks: Sequence[Check]) -> None:
        """Show the result."""
        lines = [("", *row) for row in rows]
        lines += [("ok" if check.passed else "FAILED", check.name, check.found) for check in checks]
        width = max(len(name) for _, name, _ in lines)
        print(f"\n{title}")
        for mark, name, value in lines:
            print(f"  {mark:6}  {name:{width}}  {value}")


class RichScreen(PlainScreen):
    """A bar that lives while it is entered, and a table with lines around it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        percent = TextColumn("{task.percentage:>3.0f}%")
        self._bar = Progress(BarColumn(), percent, TimeRemainingColumn(), TextColumn("{task.description}"))
        self._task = self._bar.add_task("", total=1.0)

    def __enter__(self) -> RichScreen:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def progress(self, work: Work) -> None:
        self._bar.update(self._task, completed=work.fraction, description=_done(work))

    def table(self, title: str, rows: Sequence[tuple[str, str]], checks: Sequence[Check]) -> None:
        from rich.table import Table

        table = Table("", "", "", title=title, title_justify="left", show_header=False)
        for name, value in rows:
            table.add_row("", name, value)
        table.add_section()
        for check in checks:
            mark = "[green]ok[/]" if check.passed else "[bold red]FAILED[/]"
            table.add_row(mark, check.name, check.found)
        self._bar.console.print(table)


def _done(work: Work) -> str:
    return f"{work.count('commits')} committed, {work.count('rollbacks')} rolled back"


def new_screen() -> PlainScreen:
    """Return the best screen for standard output."""
    return RichScreen() if sys.stdout.isatty() and find_spec("rich") else PlainScreen()
