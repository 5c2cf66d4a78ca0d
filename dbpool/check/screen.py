"""What a check shows: tables with rich on a terminal, plain lines anywhere else. The code has no lines around it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dbpool.check.report import basis, rows, sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbpool.check.report import Report

COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def show(report: Report) -> None:
    """Print *report*."""
    table = _rich_table if sys.stdout.isatty() and find_spec("rich") else _plain_table
    table("", [(name, printable(text)) for name, text in rows(report.found)])
    fits = sizes(report.found, report.around)
    if fits:
        lines = [
            (f"{workers} worker{'s' if workers > 1 else ''}", f"maxconn up to {maxconn}" if maxconn else "none fits")
            for workers, maxconn in fits
        ]
        table(basis(report.found), lines)
    if report.findings:
        table("", [(finding.severity, finding.text) for finding in report.findings], marked=True)
    print(f"\nFor {report.around.workers} workers:\n\n{report.code()}", end="", flush=True)


def printable(text: str) -> str:
    """Return what a server said without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _plain_table(title: str, lines: Sequence[tuple[str, str]], marked: bool = False) -> None:
    width = max(len(name) for name, _ in lines)
    print(f"\n{title}" if title else "")
    for name, text in lines:
        print(f"  {name:{width}}  {text}")


def _rich_table(title: str, lines: Sequence[tuple[str, str]], marked: bool = False) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", title=title or None, title_justify="left", show_header=False)
    for name, text in lines:
        table.add_row(Text(name, COLOURS[name] if marked else ""), Text(text))
    Console().print(table)
