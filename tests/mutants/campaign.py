"""Makes the mutants of some files and runs them, several at a time."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from functools import partial
from itertools import repeat
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from .making import Mutant, distinct, mutants, operators
from .running import Fate, Workshop
from .stages import Stage, stages

if TYPE_CHECKING:
    from collections.abc import Iterator

_workshop: Workshop  # that of a worker


class Campaign:
    """All mutants of *files*; while it is entered, the workers' processes live."""

    def __init__(self, root: Path, folder: Path, files: list[str], workers: int) -> None:
        master = Workshop(root, folder / "master")  # others may go on editing in *root*
        self.planned = {file: stages(file, master.home) for file in files}
        distinct_stages = dict.fromkeys(stage for planned in self.planned.values() for stage in planned)
        self.seconds = {stage: master.measure(stage) for stage in distinct_stages}
        self.pool = multiprocessing.get_context("fork").Pool(workers, _open_workshop, (master.home, folder))
        sources = {file: (master.home / file).read_text("utf-8") for file in files}
        self.mutants = [mutant for file, source in sources.items() for mutant in self._make(file, source)]

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pool.terminate()
        self.pool.join()

    def _make(self, file: str, source: str) -> list[Mutant]:
        made = self.pool.starmap(mutants, zip(repeat(file), repeat(source), operators()), chunksize=1)
        return distinct(source, [mutant for each in made for mutant in each])

    def run(self, chosen: list[Mutant]) -> Iterator[Fate]:
        """Return what becomes of each, as they end."""
        return self.pool.imap_unordered(partial(_try_out, self.planned, self.seconds), chosen)


def _open_workshop(master: Path, folder: Path) -> None:
    """Begin the process of a worker."""
    global _workshop
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it ends what it has started
    _workshop = Workshop(master, Path(mkdtemp(dir=folder)) / "copy")


def _try_out(planned: dict[str, list[Stage]], seconds: dict[Stage, float], mutant: Mutant) -> Fate:
    return _workshop.try_out(mutant, planned[mutant.file], seconds)
