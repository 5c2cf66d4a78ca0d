"""`python -m tests.chaos`: run, print, and say by the exit status whether all invariants held."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from servers import Missing

from .report import digest, markdown
from .soak import soak


def main() -> int:
    """Return 0 if nothing was violated and nothing is left, 1 if so, 2 if there is no server to be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Load, faults, and a checked history.")
    parser.add_argument("--seconds", type=float, default=30.0, help="each kind of fault strikes at least once")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the faults and of the load")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--history", metavar="FOLDER", help="keep the history there, also if nothing is wrong with it")
    options = parser.parse_args()
    replay = f"python -m tests.chaos --seconds {options.seconds:g} --seed {options.seed}"
    print(f"Seed {options.seed}. The same faults, in the same order: {replay}\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dbpool-chaos-"))
    try:
        result = soak(options.seconds, options.seed, folder)
    except Missing as missing:
        folder.rmdir()
        print(f"no server: {missing}", file=sys.stderr)
        return 2
    figures = digest(result)
    print(markdown(figures))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.history:
        shutil.copytree(folder, options.history)
    if result.is_good:
        shutil.rmtree(folder)
        return 0
    print(f"\nThe history is in {folder}. Threads take turns as they like; the faults come again with:\n  {replay}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
