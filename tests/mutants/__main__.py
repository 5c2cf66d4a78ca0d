"""`python -m tests.mutants [--workers N] [FILE | FILE:LINE ...]`: prints each survivor, and a table."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .campaign import Campaign
from .equivalents import listed
from .stages import FILES

if TYPE_CHECKING:
    from .making import Mutant
    from .running import Fate

ROOT = Path(__file__).parents[2]
LOG = ROOT / "build" / "mutants.log"  # what became of each
ENOUGH = 95.0  # per cent of those that are not equivalent


def main() -> int:
    """Return 1 if too many survived, or one that is listed as equivalent does not exist."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Mutation testing of the core.")
    parser.add_argument("files", nargs="*", default=FILES, help="FILE or FILE:LINE; all of the core if left out")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes at a time")
    options = parser.parse_args()
    lines = {file: int(line) if line else None for file, _, line in (each.partition(":") for each in options.files)}
    began, reasons, fates = time.monotonic(), listed(), []
    LOG.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="mutants-") as folder, LOG.open("w", encoding="utf-8") as log:
        with Campaign(ROOT, Path(folder), list(lines), options.workers) as campaign:
            chosen = [mutant for mutant in campaign.mutants if lines[mutant.file] in (None, mutant.line)]
            for fate in campaign.run([mutant for mutant in chosen if mutant.key not in reasons]):
                fates.append(fate)
                print(f"{fate.seconds:6.1f} s  {fate.stage or 'SURVIVED'}  {fate.test}\n{fate.mutant}\n", file=log)
                if not fate.killed:
                    print(f"survived, line {fate.mutant.line}: {fate.mutant}\n", flush=True)
            known = {mutant.key for mutant in campaign.mutants}
    stale = [key for key in reasons if key[0] in lines and key not in known]
    for file, where, was, becomes, nth in stale:
        print(f"listed as equivalent, but not there: {file} {where} #{nth}\n- {was}\n+ {becomes}\n")
    print_table(chosen, fates)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; what became of each is in {LOG.relative_to(ROOT)}")
    return int(bool(stale) or 100 * sum(fate.killed for fate in fates) < ENOUGH * len(fates))


def print_table(chosen: list[Mutant], fates: list[Fate]) -> None:
    """Print a line for each file, and how many each stage killed."""
    print(f"{'file':<22}{'mutants':>9}{'killed':>9}{'equivalent':>12}{'survivors':>11}{'per cent':>10}")
    files = list(dict.fromkeys(mutant.file for mutant in chosen))
    for file in [*files, "all"]:
        made = sum(file in ("all", mutant.file) for mutant in chosen)
        tried = [fate for fate in fates if file in ("all", fate.mutant.file)]
        killed = sum(fate.killed for fate in tried)
        share = 100 * killed / max(len(tried), 1)
        print(f"{file:<22}{made:>9}{killed:>9}{made - len(tried):>12}{len(tried) - killed:>11}{share:>10.1f}")
    for stage in dict.fromkeys(fate.stage for fate in fates if fate.killed):
        print(f"killed by {stage}: {sum(fate.stage == stage for fate in fates)}")


if __name__ == "__main__":
    sys.exit(main())
