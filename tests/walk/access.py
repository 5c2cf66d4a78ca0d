"""What counts as a step: the accesses to shared state in a piece of source, recognised by name."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef)
READERS = frozenset(  # these read a whole container within one call
    [
        "len",
        "list",
        "tuple",
        "sorted",
        "set",
        "frozenset",
        "dict",
        "bool",
        "min",
        "max",
        "sum",
        "any",
        "all",
        "repr",
        "str",
        "deque",
        "OrderedDict",
        "iter",
    ]
)
LAZY = frozenset(["reversed", "enumerate", "zip", "map", "filter"])  # these read it later, step by step: refused
VIEWS = frozenset(["keys", "values", "items"])
LOOKS = frozenset(["get", "copy", "count", "index", *VIEWS])  # methods that change nothing; any other may
Touch = tuple[frozenset[str], bool]  # the shared names that an access touches, and whether it may change them


@dataclass(frozen=True)
class Rules:
    """Which names are shared. Leading underscores never count, neither here nor in the source.

    A function in *plain* keeps its body: what it touches belongs to its caller's step.
    """

    flags: Iterable[str] = ()  # attributes: each load, store and delete is a step
    containers: Iterable[str] = ()  # each operation on one is a step; an alias of the same name is none
    locks: Iterable[str] = ()  # `with` on one blocks, and leaving it is a step
    guarded: Iterable[str] = ()  # attributes that are touched under a lock only: no step, but a check of that
    bound: Mapping[str, str] = field(default_factory=dict)  # bound methods: calling one is a step on that container
    calls: Iterable[str] = ()  # functions of the harness that may be generators
    own: Iterable[str] = ()  # names whose attributes are never flags: own={"conn"} for conn.closed
    plain: Iterable[str] = ()  # functions ("name" or "Class.name") to leave as they are
    dunders: Iterable[str] = ()  # special methods to compile all the same
    replace: Mapping[str, object] = field(default_factory=dict)  # globals given to every compiled module

    def __post_init__(self) -> None:
        for each in fields(self):
            names = getattr(self, each.name)
            if isinstance(names, str):
                raise TypeError(f"{each.name} must be a collection of names, not the text {names!r}")
            if each.name in ("plain", "dunders", "calls"):
                object.__setattr__(self, each.name, frozenset(names))
            elif each.name not in ("replace", "bound"):
                object.__setattr__(self, each.name, frozenset(name.lstrip("_") for name in names))


def final_name(node: ast.AST | None) -> str:
    """Return the last name of `a.b._c`, without leading underscores: "c"; "" for anything else."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_")


def called_name(node: ast.AST) -> str:
    """Return the exact last name of what a call calls, or ""."""
    func = node.func if isinstance(node, ast.Call) else None
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


class Accesses:
    """Answers, for the nodes of one module: is this a step, does it hold one, what is it called."""

    def __init__(self, rules: Rules, path: str) -> None:
        self.rules = rules
        self.path = path
        self.file = path.rpartition("/")[2]
        self.flags = {*rules.flags, *rules.guarded} - set(rules.containers)
        self.generators: set[str] = set(rules.calls)  # names whose calls may hand back a generator
        self._known: dict[ast.AST, bool] = {}

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        raise SyntaxError(f"{self.path}:{getattr(node, 'lineno', '?')} {why}: {ast.unparse(node)[:80]}")

    def label(self, node: ast.AST, prefix: str = "") -> str:
        text = " ".join(ast.unparse(node).split())
        text = text if len(text) <= 70 else text[:67] + "..."
        return f"{self.file}:{node.lineno} {prefix}{text}"  # type: ignore[attr-defined]

    def is_container(self, node: ast.AST | None) -> bool:
        return final_name(node) in self.rules.containers

    def is_view(self, node: ast.AST | None) -> bool:
        """`leases.values()` and its like: no access by itself, but reading it is one."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args):
            return False
        return node.func.attr in VIEWS and self.is_container(node.func.value)

    def is_shared(self, node: ast.AST | None) -> bool:
        return self.is_container(node) or self.is_view(node)

    def is_lock(self, item: ast.withitem) -> bool:
        return final_name(item.context_expr) in self.rules.locks

    def is_flag(self, node: ast.AST) -> bool:
        named = isinstance(node, ast.Attribute) and final_name(node) in self.flags
        return named and final_name(node.value) not in self.rules.own  # type: ignore[attr-defined]

    def is_generator_call(self, node: ast.AST) -> bool:
        """May the call hand back a generator? (An access may, too: `waiters.leave()`, if waiters is no deque.)"""
        return called_name(node) in self.generators

    def is_access(self, node: ast.AST) -> bool:
        """Does evaluating *node* itself, apart from its operands, touch shared state?"""
        if isinstance(node, ast.Attribute):
            return self.is_flag(node)
        if isinstance(node, ast.Call):
            return self._is_access_call(node)
        if isinstance(node, (ast.Subscript, ast.Starred)):
            return self.is_shared(node.value)
        if isinstance(node, ast.JoinedStr):
            return any(self.is_shared(each.value) for each in node.values if isinstance(each, ast.FormattedValue))
        if isinstance(node, ast.BinOp):
            return self.is_shared(node.left) or self.is_shared(node.right)
        if isinstance(node, ast.UnaryOp):
            return self.is_shared(node.operand)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            return any(self.is_access_pair(*pair) for pair in zip(operands, node.ops, operands[1:]))
        return False

    def is_guarded(self, node: ast.AST) -> bool:
        """Does the access *node* touch nothing but what a lock guards?"""
        if not self.rules.guarded:
            return False
        parts = [node, *ast.iter_child_nodes(node)]
        inner = [part.args for part in parts if isinstance(part, ast.Call) and called_name(part) == "iter"]
        parts += [each for args in inner for each in args]  # of next(iter(x))
        parts += [part.value for part in parts if isinstance(part, (ast.Attribute, ast.FormattedValue))]
        parts += [part.func.value for part in parts if self.is_view(part)]  # type: ignore[attr-defined]
        names = {final_name(part) for part in parts if self.is_flag(part) or self.is_container(part)}
        return bool(names) and names <= set(self.rules.guarded)

    def touched(self, node: ast.AST) -> Touch:
        """Tell what the access *node* itself touches, apart from what its operands do."""
        if isinstance(node, ast.Attribute) and self.is_flag(node):
            return frozenset([final_name(node)]), not isinstance(node.ctx, ast.Load)
        if isinstance(node, ast.Call) and final_name(node.func) in self.rules.bound:
            return frozenset([self.rules.bound[final_name(node.func)]]), True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and self.is_container(node.func.value):
            return frozenset([final_name(node.func.value)]), node.func.attr not in LOOKS
        if isinstance(node, ast.Subscript):
            return self._names_in([node.value]), not isinstance(node.ctx, ast.Load)
        return self._names_in([node, *ast.iter_child_nodes(node)]), False

    def _names_in(self, parts: list[ast.AST]) -> frozenset[str]:
        """The containers among *parts*: as they are, as views, within iter(), or in braces of an f-string."""
        found: set[str] = set()
        for part in parts:
            if self.is_container(part):
                found.add(final_name(part))
            elif self.is_view(part):
                found.add(final_name(part.func.value))  # type: ignore[attr-defined]
            elif isinstance(part, ast.Call) and called_name(part) == "iter":
                found |= self._names_in([*part.args])
            elif isinstance(part, ast.FormattedValue):
                found |= self._names_in([part.value])
        return frozenset(found)

    def is_access_pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> bool:
        asks_identity = isinstance(op, (ast.Is, ast.IsNot))
        return not asks_identity and (self.is_shared(left) or self.is_shared(right))

    def _is_access_call(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Attribute) and self.is_container(node.func.value):
            return True
        if final_name(node.func) in self.rules.bound:
            return True
        name = called_name(node)
        if name == "next" and node.args and self._reads_whole(node.args[0], "iter"):
            return True
        if name in LAZY and any(map(self.is_shared, node.args)):
            self.refuse(node, "read lazily, a shared container needs list() around it")
        return self._reads_whole(node, name) and name in READERS

    def _reads_whole(self, node: ast.AST, name: str) -> bool:
        return isinstance(node, ast.Call) and called_name(node) == name and any(map(self.is_shared, node.args))

    def steps(self, node: ast.AST | None) -> bool:
        """Would running *node* suspend anywhere?"""
        if node is None:
            return False
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._steps(node)
        return known

    def _steps(self, node: ast.AST) -> bool:
        if isinstance(node, (*SCOPES, ast.Lambda)):
            self._check_scope(node)
            return False
        if isinstance(node, COMPREHENSIONS):
            return self._comprehension_steps(node)
        if isinstance(node, ast.With) and any(map(self.is_lock, node.items)):
            return True
        if isinstance(node, ast.BoolOp) and any(map(self.is_container, node.values)):
            return True
        if isinstance(node, (ast.If, ast.While, ast.IfExp, ast.Assert)) and self.is_container(node.test):
            return True
        if isinstance(node, ast.For) and self.is_shared(node.iter):
            return True
        found = self.is_access(node) or self.is_generator_call(node)
        return any(self.steps(child) for child in ast.iter_child_nodes(node)) or found

    def _check_scope(self, node: ast.AST) -> None:
        """A nested function is another function's matter, but its defaults and decorators are run here."""
        here: list[ast.AST | None] = [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())]
        args = getattr(node, "args", None)
        if args is not None:
            here += [*args.defaults, *args.kw_defaults]
        if isinstance(node, ast.Lambda):
            here.append(node.body)
        if any(map(self.steps, here)):
            self.refuse(node, "shared access in a lambda, default or decorator")

    def _comprehension_steps(self, node: ast.AST) -> bool:
        """Only the first iterable runs outside of the comprehension's own frame."""
        first = node.generators[0]  # type: ignore[attr-defined]
        parts = [each for each in ast.iter_child_nodes(node) if each is not first]
        if any(map(self.steps, [*parts, first.target, *first.ifs])):
            self.refuse(node, "shared access within a comprehension")
        inner = [each.iter for each in node.generators]  # type: ignore[attr-defined]
        if any(map(self.is_shared, inner)):
            self.refuse(node, "a comprehension over a shared container needs list() around it")
        return self.steps(first.iter)


def own_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST]:
    """All nodes of the function's body but those of functions and classes inside it."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        found.append(node)
        if not isinstance(node, SCOPES):
            todo += ast.iter_child_nodes(node)
    return found
