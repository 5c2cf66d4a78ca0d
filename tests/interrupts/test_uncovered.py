"""No loop stands in a ``with`` block over a lock.

From CPython 3.12 on a jump back in a loop is in no exception table, where the compiler believes that it cannot raise.
But it is one of the points at which an interrupt strikes: then the block is left without its lock's release.
"""

from __future__ import annotations

import ast
import dis
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import pytest

import dbpool

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(dbpool.__file__).parent
LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)
MODULES = sorted(path.name for path in HOME.glob("*.py"))


def withs_over_locks(source: str) -> list[ast.With]:
    """Return the blocks whose context manager is named as a lock."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.With)
        and any(word in ast.unparse(item.context_expr) for item in node.items for word in ("lock", "_resting"))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_no_loop_stands_in_a_with_block_over_a_lock(module: str) -> None:
    blocks = withs_over_locks((HOME / module).read_text(encoding="utf-8"))
    found = [node.lineno for block in blocks for node in ast.walk(block) if isinstance(node, LOOPS)]
    assert found == []


def test_locks_are_looked_for_where_they_are() -> None:
    found = {module for module in MODULES if withs_over_locks((HOME / module).read_text(encoding="utf-8"))}
    assert {"core.py", "shell.py", "abstract.py", "registry.py", "housekeeper.py"} <= found


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes(const)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="CPython 3.12 brought it")
def test_the_interpreter_is_as_the_rule_says() -> None:
    """When this fails, the interpreter has been mended, and the rule is needed for older ones only."""
    source = "def f(lock, xs):\n with lock:\n  for x in xs:\n   if x: g(x)"
    (code,) = list(codes(compile(source, "f", "exec")))[1:]
    covered = dis.Bytecode(code).exception_entries
    jumps = [each.offset for each in dis.get_instructions(code) if each.opname.startswith("JUMP_BACKWARD")]
    assert any(not any(entry.start <= jump < entry.end for entry in covered) for jump in jumps)
