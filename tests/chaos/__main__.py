"""`python -m tests.chaos`: run, print, and say by the exit status whether all invariants held."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servers import Missing

from .report import digest, markdown
from .soak import THREADS, soak

if TYPE_CHECKING:
    from .soak import Cast


def main() -> int:
    """Return 0 if nothing was violated and nothing is left, 1 if so, 2 if a server or a driver is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Load, faults, and a checked history.")
    parser.add_argument("--seconds", type=float, default=30.0, help="each kind of fault strikes at least once")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the faults and of the load")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--history", metavar="FOLDER", help="keep the history there, also if nothing is wrong with it")
    parser.add_argument("--asyncio", action="store_true", help="AsyncConnectionPool under the tasks of one event loop")
    options = parser.parse_args()
    kind = "--asyncio " if options.asyncio else ""
    replay = f"python -m tests.chaos {kind}--seconds {options.seconds:g} --seed {options.seed}"
    print(f"Seed {options.seed}. The same faults, in the same order: {replay}\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dbpool-chaos-"))
    try:
        result = soak(options.seconds, options.seed, folder, cast(options))
    except Missing as missing:
        folder.rmdir()
        print(f"missing: {missing}", file=sys.stderr)
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
    print(f"\nThe history is in {folder}. Who comes first is chance; the faults come again with:\n  {replay}")
    return 1


def cast(options: argparse.Namespace) -> Cast:
    """Return who takes part; for an event loop the seed chooses the driver."""
    if not options.asyncio:
        return THREADS
    from .looped import cast_for

    return cast_for(options.seed)


if __name__ == "__main__":
    sys.exit(main())
