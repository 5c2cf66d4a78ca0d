"""Makes the mutants of a file: cosmic-ray's operators, and one of our own that leaves a statement out."""

from __future__ import annotations

import ast
import marshal
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator

Span = tuple[tuple[int, int], tuple[int, int]]  # (line, column) of the first character and of the one after the last


@dataclass(frozen=True)
class Mutant:
    """One change to one file. All but the last two tell it from others, wherever in the file its lines move to."""

    file: str
    where: str  # the function, with its class
    was: str  # the lines that change, as one ...
    becomes: str  # ... and what they become
    nth: int  # of those that are alike in all of this
    line: int
    source: str  # the whole file, changed

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        return self.file, self.where, self.was, self.becomes, self.nth

    def __str__(self) -> str:
        nth = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.file} {self.where}{nth}\n- {self.was}\n+ {self.becomes}"


class LeaveOut(Operator):
    """Puts ``pass`` in the place of a statement: cosmic-ray changes what is computed, but loses no step."""

    KEPT = ("import_name", "import_from", "global_stmt", "nonlocal_stmt", "string", "strings", "keyword")

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and node.children[0].type not in self.KEPT:
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        left_out = node.children[0]
        node.children[0] = parso.python.tree.Keyword("pass", left_out.start_pos, left_out.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("f()", "pass"),)


def operators() -> list[str]:
    """Return the names of all that need no arguments: those with arguments change things at random."""
    return ["LeaveOut", *(name for name in operator_names() if not get_operator(name).arguments())]


def operator(name: str) -> Any:
    return LeaveOut() if name == "LeaveOut" else get_operator(name)()


def mutants(file: str, source: str, name: str) -> list[Mutant]:
    """Return what the operator called *name* makes of *source*, but for what cannot run or means the same."""
    made, chosen, skipped = [], operator(name), meaningless(source)
    places = [span for node in ast_nodes(get_ast(source)) for span in chosen.mutation_positions(node)]
    for occurrence, span in enumerate(places):
        if any(start <= span[0] and span[1] <= end for start, end in skipped):
            continue
        changed = mutate_code(source, chosen, occurrence)
        if changed is not None and runs(changed):
            was, becomes = difference(source, changed)
            made.append(Mutant(file, function_at(source, span[0][0]), was, becomes, 1, span[0][0], changed))
    return made


def distinct(source: str, made: list[Mutant]) -> list[Mutant]:
    """Return one of each, in the order of their lines; those that are the program itself are left out."""
    seen, counts, kept = {meaning(source)}, Counter[Any](), []
    for mutant in sorted(made, key=lambda mutant: (mutant.line, mutant.becomes)):
        if meaning(mutant.source) not in seen:
            seen.add(meaning(mutant.source))
            counts[mutant.key] += 1
            kept.append(replace(mutant, nth=counts[mutant.key]))
    return kept


def meaningless(source: str) -> list[Span]:
    """Where a change has no meaning at run time: annotations, ``if TYPE_CHECKING:``, ``__slots__``."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found.append(node)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            found.append(node)
        if isinstance(node, ast.AnnAssign) and node.value is None:
            found.append(node)
        spans += [((each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset)) for each in found if each]
    return spans


def runs(source: str) -> bool:
    """Whether it can be compiled, and without a warning: pytest would take one for an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            compile(source, "mutant", "exec")
        except (SyntaxError, SyntaxWarning):
            return False
    return True


def meaning(source: str) -> bytes:
    """Return the code that is run for *source*, without where in the file it stands."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = 1  # type: ignore[attr-defined]
            node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
    return marshal.dumps(compile(tree, "mutant", "exec"), 2)  # the last version that keeps no count of references


def difference(old: str, new: str) -> tuple[str, str]:
    """Return the lines that differ, each time as one line, without comments."""
    before, after = old.splitlines(), new.splitlines()
    first = next(number for number, (a, b) in enumerate(zip(before, after)) if a != b)
    last = next(number for number, (a, b) in enumerate(zip(reversed(before), reversed(after))) if a != b)
    return one_line(before[first : len(before) - last]), one_line(after[first : len(after) - last])


def one_line(lines: list[str]) -> str:
    return " ".join(" ".join(line.partition("  # ")[0] for line in lines).split())


def function_at(source: str, line: int) -> str:
    """Return the name of the innermost function or class around *line*, with what is around that."""
    nodes = ast.walk(ast.parse(source))  # outer ones first
    around = [
        node.name for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.lineno <= line <= (node.end_lineno or 0)
    ]  # fmt: skip
    return ".".join(around) or "(module)"
