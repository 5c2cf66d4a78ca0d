"""Sixteen faults, and what becomes of six pools: each probe with its figure, side by side, in one run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from faulting import adapters
from faulting.children import Failed, run
from faulting.rows import ROWS
from faulting.table import Table, machine_in_words
from serving import clusters

TITLE = "Faults"


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write all to FILE")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the table to FILE")
    parser.add_argument("--rows", metavar="N,N", help="only these rows")
    return parser.parse_args()


def main() -> None:
    """Run all, print, write; the exit status says whether nobody was better anywhere."""
    options = arguments()
    chosen = {int(number) for number in options.rows.split(",")} if options.rows else {row.number for row in ROWS}
    print(f"{TITLE}\n{machine_in_words()}\n", flush=True)
    table = Table([kind.name for kind in adapters.ALL], adapters.Ours.name)
    began = time.monotonic()
    with clusters() as start:
        town, inn = start(), start()
        for row in ROWS:
            if row.number in chosen:
                table.add(row, run(row.probe, adapters.ALL, inn if row.restarts else town, row.together))
                print(table.as_text(row), flush=True)
    seconds = time.monotonic() - began
    print(f"\n{table.summary()}, measured in {seconds:.0f} s")
    if options.json:
        options.json.write_text(table.as_json(TITLE, seconds), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(table.as_markdown(), encoding="utf-8")
    sys.exit(0 if all(map(table.is_best, table.rows)) else 1)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"a probe failed:\n{failed}")
