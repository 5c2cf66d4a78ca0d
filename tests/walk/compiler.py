"""Compiles the shipped source, or a patched copy, into generators that suspend before each shared access."""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from contextlib import contextmanager
from types import GeneratorType, ModuleType
from typing import TYPE_CHECKING, Any, Union

from .access import FUNCTIONS, Accesses, Rules, Touch, called_name, final_name, own_nodes
from .lowering import END, GENERATOR, GUARD, RUN, TYPE, WORLD
from .lowering import load as load_name
from .statements import lower_function
from .world import Step, World, check_guard, run_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Rules", "load", "patched", "walked"]
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
PLAIN_DECORATORS = {"property", "cached_property", "setter", "getter", "deleter", "overload"}


def patched(text: str, old: str, new: str) -> str:
    """Plant a bug: replace *old*, which must occur exactly once."""
    count = text.count(old)
    if count != 1:
        raise ValueError(f"must occur once, not {count} times: {old!r}")
    return text.replace(old, new)


def load(sources: Mapping[str, str], rules: Rules) -> dict[str, ModuleType]:
    """Compile module texts by name ("dbpool.state"); they import one another, and else what is real."""
    trees = {name: Source(name, text, rules) for name, text in sources.items()}
    generators = set(rules.calls)
    while True:
        more = {each.name for tree in trees.values() for each in tree.find_generators(generators)} - generators
        if not more:
            break
        generators |= more
    for tree in trees.values():
        tree.lower(generators)
    return Loader(trees, rules).modules()


def walked(module: ModuleType) -> frozenset[str]:
    """Return the names ("Class.method") of the functions that were compiled into steps."""
    names: frozenset[str] = module.__walked__
    return names


class Source:
    """One module: which of its functions are walked, and their lowering."""

    def __init__(self, name: str, text: str, rules: Rules) -> None:
        self.name = name
        self.path = name.replace(".", "/") + ".py"
        self.tree = ast.parse(text, self.path)
        self.rules = rules
        self.functions = dict(_functions(self.tree))
        self.steps: dict[str, tuple[str, Touch]] = {}
        self.walked: list[str] = []
        shared = Accesses(Rules(**{**vars(rules), "calls": ()}), self.path)
        self.direct = {
            function
            for function, name in self.functions.items()
            if not self._is_plain(function, name) and self._touches(function, shared)
        }

    def _is_plain(self, function: Function, name: str) -> bool:
        if function.name in self.rules.plain or name in self.rules.plain:
            return True
        is_dunder = function.name[:2] == "__" == function.name[-2:]
        decorators = {final_name(each) for each in function.decorator_list}
        return bool(
            (is_dunder and function.name not in self.rules.dunders)
            or decorators & PLAIN_DECORATORS
            or any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in own_nodes(function))
        )

    def _touches(self, function: Function, shared: Accesses) -> bool:
        for node in own_nodes(function):
            value = getattr(node, "value", None)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and value is not None:
                self._check_alias(node, value, shared)
        return any(shared.steps(each) for each in function.body)

    def _check_alias(self, node: Any, value: ast.expr, shared: Accesses) -> None:
        """A container or its method under a name that the rules do not know would be touched unseen."""
        targets = getattr(node, "targets", None) or [node.target]
        if shared.is_container(value) and not all(map(shared.is_container, targets)):
            shared.refuse(node, "a shared container under another name")
        is_method = isinstance(value, ast.Attribute) and shared.is_container(value.value)
        if is_method and not all(final_name(each) in self.rules.bound for each in targets):
            shared.refuse(node, "a method of a shared container under a name that is not in rules.bound")

    def find_generators(self, generators: set[str]) -> Iterator[Function]:
        for function, name in self.functions.items():
            calls = any(called_name(node) in generators for node in own_nodes(function))
            if function in self.direct or (calls and not self._is_plain(function, name)):
                yield function

    def lower(self, generators: set[str]) -> None:
        """Replace the walked functions in the tree, and have all others run walked ones in place."""
        shared = Accesses(self.rules, self.path)
        shared.generators = generators
        in_place = _RunInPlace(generators)
        chosen = set(self.find_generators(generators))
        for function, name in self.functions.items():
            if function not in chosen or not any(map(shared.steps, function.body)):
                self._check_property(function, name, shared)
                function.body = [in_place.visit(each) for each in function.body]
            elif isinstance(function, ast.AsyncFunctionDef):
                shared.refuse(function, "shared access in an async function")
            else:
                self.walked.append(name)
                function.body = lower_function(function, shared, self.steps).body
        in_place.visit(self.tree)

    def _check_property(self, function: Function, name: str, shared: Accesses) -> None:
        """What a property reads would go unseen where it is asked."""
        known = {function.name, name} & (self.rules.plain | self.rules.flags)
        if known or function.name.startswith("__"):
            return
        for node in own_nodes(function):
            if shared.is_access(node):
                shared.refuse(node, f"{name} reads shared state unseen: name it in rules.flags or rules.plain")


class _RunInPlace(ast.NodeTransformer):
    """In functions that are not walked: what a call hands back is run at once, within the step of the caller."""

    def __init__(self, generators: set[str]) -> None:
        self.generators = generators

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if called_name(node) not in self.generators:
            return node
        return ast.fix_missing_locations(ast.copy_location(ast.Call(load_name(RUN), [node], []), node))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[Function, str]]:
    """Every function with its qualified name, inner ones before those around them."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, (*FUNCTIONS, ast.ClassDef))
        name = f"{prefix}{node.name}" if named else prefix  # type: ignore[attr-defined]
        yield from _functions(node, f"{name}." if named else prefix)
        if isinstance(node, FUNCTIONS):
            yield node, name


class Loader:
    """Runs the compiled modules; imports between them meet each other and not the real ones."""

    def __init__(self, trees: dict[str, Source], rules: Rules) -> None:
        self.trees = trees
        self.rules = rules
        self.loaded: dict[str, ModuleType] = {}

    def modules(self) -> dict[str, ModuleType]:
        for package in {name.partition(".")[0] for name in self.trees}:
            try:
                importlib.import_module(package)
            except ModuleNotFoundError:
                pass  # a module that exists as text only
        return {name: self.module(name) for name in self.trees}

    def module(self, name: str) -> ModuleType:
        if name in self.loaded:
            return self.loaded[name]
        source = self.trees[name]
        module = self.loaded[name] = ModuleType(f"walk.{name}")
        space = module.__dict__
        space.update(
            __builtins__={**vars(builtins), "__import__": self.imports},
            __file__=source.path,
            __package__=name.rpartition(".")[0],
            __walked__=frozenset(source.walked),
            **{
                GENERATOR: GeneratorType,
                TYPE: type,
                END: object(),
                RUN: run_in_place,
                WORLD: World,
                GUARD: check_guard,
            },
            **self.rules.replace,
        )
        space.update((variable, Step(label, *touched)) for label, (variable, touched) in source.steps.items())
        code = compile(source.tree, source.path, "exec", dont_inherit=True)
        with _registered(module):
            exec(code, space)
        space.update(self.rules.replace)  # its imports may have put the real ones back
        return module

    def imports(self, name: str, space: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        """Stands for __import__ within compiled modules."""
        if level:
            parents = space["__package__"].split(".")
            name = ".".join(parents[: len(parents) - level + 1] + ([name] if name else []))
        if name in self.trees and wanted:
            return self.module(name)
        inner = {each: self.module(f"{name}.{each}") for each in wanted or () if f"{name}.{each}" in self.trees}
        if not inner:
            if not wanted and any(each == name or each.startswith(f"{name}.") for each in self.trees) and level == 0:
                raise ImportError(f"write `from ... import`, not `import {name}`, for what is walked")
            return builtins.__import__(name, space, local, wanted, 0)
        around = ModuleType(name)
        real = [each for each in wanted if each not in inner]
        if real:
            found = builtins.__import__(name, space, local, real, 0)
            around.__dict__.update((each, getattr(found, each)) for each in real)
        around.__dict__.update(inner)
        return around


@contextmanager
def _registered(module: ModuleType) -> Iterator[None]:
    """Dataclasses look their module up in sys.modules while they are made."""
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
