"""Measures everything and prints it; writes benchmarks/results, draws docs/images/bench-*.svg, fills in the READMEs."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import tables
from benchmarks.bench import Bench
from benchmarks.peers import installed
from benchmarks.peers.tasks import ALL as TASKS
from benchmarks.results import FOLDER, load, machine, save

WORK = ("hits", "contention", "opening", "end_to_end", "memory", "tasks", "recovery")
LIMITS = {False: 600, True: 60}  # seconds


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten; writes and draws nothing")
    parser.add_argument(
        "--only", metavar="NAME,NAME", help=f"only these of {', '.join(WORK)}; keeps the others' results"
    )
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=FOLDER, help="where the JSON goes")
    return parser.parse_args()


def main() -> None:
    """Run all; the exit status says nothing of the figures, which `make bench-check` watches."""
    options = arguments()
    chosen = options.only.split(",") if options.only else list(WORK)
    unknown = sorted(set(chosen) - set(WORK))
    if unknown:
        sys.exit(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORK)}")
    began = time.perf_counter()
    bench = Bench(options.quick)
    there, missing = installed(TASKS)  # type: ignore[arg-type]  # both kinds say what they need
    notes = sorted({*bench.notes, *missing})
    tables.console.print(tables.about(machine()))
    tables.checks([*bench.peers, *there])
    for note in notes:
        tables.console.print(f"[yellow]{note}[/yellow]")
    with bench.serving():
        for name in chosen:
            work = importlib.import_module(f"benchmarks.work.{name}")
            tables.workload(bench.run(name, work.TITLE, work.run))
            tables.console.print(f"[dim]{bench.seconds[name]} s[/dim]")
    seconds = time.perf_counter() - began
    finish(bench, options, seconds, notes)


def finish(bench: Bench, options: argparse.Namespace, seconds: float, notes: list[str]) -> None:
    """Print the figures; write and draw, unless it was a quick run."""
    kept, about = load(options.results)
    results = bench.results if options.quick else {**kept, **bench.results}
    lines = tables.promises(results)
    limit = LIMITS[options.quick]
    tables.console.print(
        f"measured in {seconds:.0f} s" + ("" if seconds <= limit else f", longer than the {limit} s allowed")
    )
    if options.quick:
        return
    about = {
        "machine": machine(),
        "notes": sorted({*notes, *bench.notes}),
        "seconds": {**about.get("seconds", {}), **bench.seconds},
        "checks": {peer.name: peer.checks for peer in (*bench.peers, *TASKS)},
        "figures": [vars(line) for line in lines],
    }
    save(results, about, options.results)
    from benchmarks import pictures

    pictures.draw(results)
    from benchmarks import readme

    readme.fill()


if __name__ == "__main__":
    main()
