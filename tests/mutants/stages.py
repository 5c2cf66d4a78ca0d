"""Which tests a mutant meets, in which order: quick ones that know its file first, then all of layers 0 to 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = "tests/mutants"
UNIT = "tests/unit"
FILES = tuple(f"dbpool/{name}.py" for name in ("state", "semaphore", "entry", "pool", "registry", "health"))
# They look at the text of the source, start processes or drop thousands of connections: no mutant lives until then.
LEFT_OUT = {"floors", "config", "processes", "dropping"}
# By themselves, without time that passes.
ALONE = {
    "state": "matching wishes state health",
    "semaphore": "semaphore state",
    "entry": "entry state health",
    "pool": "sleeping helpers",
    "registry": "registry outcomes reaping state health matching wishes",
    "health": "limits doubts health registry state",
}
NEAR = {"pool": "persistent options deadlock connecting closing getting"}


@dataclass(frozen=True)
class Stage:
    """One run of pytest. If its tests *wait* for real time, a failure must come twice to count."""

    name: str
    tests: tuple[str, ...]
    patience: float  # seconds for one test
    waits: bool = False


def stages(file: str, root: Path) -> list[Stage]:
    """Return the stages for the mutants of *file*, the quickest first."""
    alone, near = (_files(choice.get(Path(file).stem, "")) for choice in (ALONE, NEAR))
    others = {path.stem.partition("_")[2] for path in (root / UNIT).glob("test_*.py")} - LEFT_OUT
    rest = tuple(name for name in _files(" ".join(sorted(others))) if name not in alone + near)
    return [
        Stage("alone", alone, 5.0),
        Stage("model", (f"{HERE}/short_model.py",), 30.0),
        Stage("unit", near + rest, 15.0, waits=True),
        Stage("schedules", (f"{HERE}/short_schedules.py",), 30.0),
    ]


def _files(names: str) -> tuple[str, ...]:
    return tuple(f"{UNIT}/test_{name}.py" for name in names.split())
