"""Which tests a mutant meets, in which order: quick ones that know its file first, then all of layers 0 to 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = "tests/mutants"
UNIT = "tests/unit"
FILES = tuple(f"dbpool/{name}.py" for name in ("state", "semaphore", "entry", "pool", "registry", "health"))
# They look at the text of the source, start processes or drop thousands of connections: no mutant lives until then.
LEFT_OUT = ("test_floors", "test_config", "test_processes", "test_dropping")
FIRST = {
    "state": "matching wishes state health",
    "semaphore": "semaphore state",
    "entry": "entry state health",
    "pool": "sleeping options persistent getting deadlock connecting closing",
    "registry": "registry outcomes reaping state health matching wishes",
    "health": "limits doubts health registry state",
}


@dataclass(frozen=True)
class Stage:
    """One run of pytest. If its tests *wait* for real time, a failure must come twice to count."""

    name: str
    tests: tuple[str, ...]
    patience: float  # seconds for one test
    waits: bool = False


def stages(file: str, root: Path) -> list[Stage]:
    """Return the stages for the mutants of *file*, the quickest first."""
    first = [f"{UNIT}/test_{name}.py" for name in FIRST[Path(file).stem].split()]
    others = sorted(
        f"{UNIT}/{path.name}" for path in (root / UNIT).glob("test_*.py")
        if path.stem not in LEFT_OUT and f"{UNIT}/{path.name}" not in first
    )  # fmt: skip
    return [
        Stage("first", tuple(first), 5.0, waits=file == "dbpool/pool.py"),
        Stage("model", (f"{HERE}/short_model.py",), 20.0),
        Stage("unit", tuple(others), 15.0, waits=True),
        Stage("schedules", (f"{HERE}/short_schedules.py",), 20.0),
    ]
