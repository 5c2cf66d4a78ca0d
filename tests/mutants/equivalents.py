"""Reads equivalent.txt: the mutants that no test can tell from the program, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("equivalent.txt")
Key = tuple[str, str, str, str, int]  # a mutant's


@dataclass(frozen=True)
class Equivalent:
    """Some mutants that are alike, and the reason why they cannot be told from the program."""

    keys: tuple[Key, ...]
    reason: str


def parsed(text: str) -> list[Equivalent]:
    """Return what *text* lists. A block: where, pairs of lines that begin with - and +, the reason."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            found.append(_equivalent(lines))
    return found


def _equivalent(lines: list[str]) -> Equivalent:
    file, where, *rest = lines[0].split()
    nth = int(rest[0].lstrip("#")) if rest else 1
    was = [line[2:] for line in lines[1:] if line.startswith("- ")]
    becomes = [line[2:] for line in lines[1:] if line.startswith("+ ")]
    reason = " ".join(line for line in lines[1:] if line[:2] not in ("- ", "+ "))
    if not was or len(was) != len(becomes) or not reason:
        raise ValueError(f"equivalent.txt: not pairs of - and + with a reason: {' '.join(lines)}")
    return Equivalent(tuple((file, where, *pair, nth) for pair in zip(was, becomes)), reason)


def listed() -> dict[Key, str]:
    """Return the reason for each."""
    return {key: each.reason for each in parsed(LIST.read_text(encoding="utf-8")) for key in each.keys}
