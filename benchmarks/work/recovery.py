"""Recovery: all backends killed, the server away for two seconds, a backend frozen; probes of faults.py."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.results import Workload

TITLE = "Recovery"
FAILED, SECONDS = "failed calls", "until served"
PROBES = {
    5: (FAILED,),
    7: (SECONDS,),
    8: (FAILED, SECONDS),
}
NEVER = 6.0  # seconds; what was cut off after them is shown as if it had ended then


def run(bench: Bench, tape: Workload) -> None:
    """Run three probes of the fault benchmark, which has sixteen."""
    from benchmarks.faulting import adapters, children, rows

    for row in rows.ROWS:
        if row.number not in PROBES or (bench.quick and row.number != 5):
            continue
        kinds = [kind for kind in adapters.ALL if bench.wants(kind.name)]
        cells = children.run(row.probe, kinds, bench.start() if row.restarts else bench.cluster, row.together)
        for position, measure in enumerate(PROBES[row.number]):
            samples = {}
            for name, cell in cells.items():
                if cell.rank is not None:
                    value = cell.rank[position]
                    samples[name] = [NEVER if isinf(value) else value]
            tape.add(row.title, measure, "s" if measure == SECONDS else "", samples)
        tape.notes.append(f"{row.title}: {row.note}")
        tape.notes += [f"{row.title}: {name}: {cell.shown}" for name, cell in cells.items()]
