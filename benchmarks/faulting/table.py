"""The table of probes and pools: which cells are equal, whose is the best, and how all that is written down."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from math import isinf
from typing import Any, Callable

NOISE, LEAST = 0.2, 0.005  # two times are equal within this part of the shorter one, or within so many seconds
DISTRIBUTIONS = ("psycopg2-binary", "psycopg", "psycopg-pool", "SQLAlchemy", "DBUtils", "generic-connection-pool")


@dataclass(frozen=True)
class Cell:
    """What a probe found of a pool: as shown, and as ranked, lower first. No rank: it does not apply."""

    shown: str
    rank: tuple[float, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs; a rank without end is null."""
        rank = None if self.rank is None else [None if isinf(each) else each for each in self.rank]
        return {"shown": self.shown, "rank": rank}


def none(why: str = "") -> Cell:
    """Return the cell of a pool to which a probe does not apply."""
    return Cell(f"- ({why})" if why else "-")


@dataclass(frozen=True)
class Row:
    """A probe, what it measures, and which of its ranks are times."""

    number: int
    title: str
    order: str  # what is best, in words
    probe: Callable[[Any, Any], Cell]
    times: tuple[int, ...] = ()  # the positions of times among the ranks; counts are equal only if they are the same
    note: str = ""
    together: bool = False  # it mostly waits, so all pools are probed at the same time
    restarts: bool = False  # it stops the server, which nobody else may use

    def better(self, first: Cell, second: Cell) -> bool:
        """Tell whether *first* is better than *second* by more than noise: the first rank that differs decides."""
        if first.rank is None or second.rank is None:
            return second.rank is None and first.rank is not None
        for position, (one, other) in enumerate(zip(first.rank, second.rank)):
            noise = max(LEAST, NOISE * min(one, other)) if position in self.times else 0.0
            if one != other and abs(one - other) > noise:
                return one < other
        return False


@dataclass
class Table:
    """The cells found so far, of *ours* and of the others."""

    names: list[str]
    ours: str
    cells: dict[int, dict[str, Cell]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row, cells: dict[str, Cell]) -> None:
        """Note a row."""
        self.rows.append(row)
        self.cells[row.number] = cells

    def is_best(self, row: Row) -> bool:
        """Tell whether no other pool is better than ours."""
        cells = self.cells[row.number]
        return not any(row.better(cells[name], cells[self.ours]) for name in self.names)

    def summary(self) -> str:
        """Say in how many rows nobody is better."""
        best = sum(map(self.is_best, self.rows))
        return f"{self.ours} is best or equal best in {best} of {len(self.rows)} rows"

    def lines(self, row: Row) -> list[str]:
        """Return a row's cells in order, and whether ours is best."""
        cells = self.cells[row.number]
        return [*(cells[name].shown for name in self.names), "yes" if self.is_best(row) else "no"]

    def as_text(self, row: Row) -> str:
        """Return a row as a paragraph for the terminal."""
        shown = zip([*self.names, "best or equal best"], self.lines(row))
        return "\n".join(
            [f"{row.number:2} {row.title} ({row.order})", *(f"     {name:<24} {cell}" for name, cell in shown)]
        )

    def as_markdown(self) -> str:
        """Return the whole table, its footnotes and its summary."""
        head = ["", "probe", *self.names, "best or equal best"]
        rows = [[str(row.number), f"{row.title}; {row.order}", *self.lines(row)] for row in self.rows]
        lines = [head, ["---"] * len(head), *rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        notes = "\n".join(f"- {row.number}: {row.note}" for row in self.rows if row.note)
        return f"{table}\n\n{self.summary()}.\n\n{machine_in_words()}\n\n{notes}\n"

    def as_json(self, title: str, seconds: float) -> str:
        """Return all of it for programs."""
        rows = [
            {
                "number": row.number,
                "probe": row.title,
                "order": row.order,
                "note": row.note,
                "cells": {name: cell.as_json() for name, cell in self.cells[row.number].items()},
                "best": self.is_best(row),
            }
            for row in self.rows
        ]
        words = {
            "title": title,
            "summary": self.summary(),
            "seconds": round(seconds, 1),
            "machine": machine(),
            "rows": rows,
        }
        return json.dumps(words, indent=2) + "\n"


def machine() -> dict[str, Any]:
    """Return what the figures were measured with."""
    versions = {name: version(name) for name in DISTRIBUTIONS}
    return {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system(), **versions}


def machine_in_words() -> str:
    """Return the same in a line."""
    found = machine()
    packages = ", ".join(f"{name} {found[name]}" for name in DISTRIBUTIONS)
    return f"CPython {found['python']}, {found['cores']} cores, {found['system']}; {packages}"
