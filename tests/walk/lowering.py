"""A-normal form: rewrites one function so that it suspends only between statements, with an empty value stack."""

from __future__ import annotations

import ast
import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable

from .access import SCOPES, Accesses, Touch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TEMP = "_walk_"  # how every name begins that is put into compiled code
RESULT = "_walk_result"  # what a return carries through a finally that suspends
GENERATOR, TYPE, END, STEP = "_walk_generator", "_walk_type", "_walk_end", "_walk_step"
RUN, WORLD, GUARD = "_walk_run", "_walk_world", "_walk_guard"
Slot = tuple[Any, Any]  # where an operand stands: (list, index) or (node, field)


def load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


def assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([store(name)], value)


def is_temp(name: str) -> bool:
    return name.startswith(TEMP) and name[len(TEMP) :].isdigit()


def forget(names: Iterable[str]) -> list[ast.stmt]:
    """`_walk_1 = _walk_2 = None`: a temporary must hold nothing longer than the value stack would."""
    targets: list[ast.expr] = [store(name) for name in sorted(names)]
    return [ast.Assign(targets, ast.Constant(None))] if targets else []


def read_slot(slot: Slot) -> ast.expr:
    holder, key = slot
    node: ast.expr = holder[key] if isinstance(holder, list) else getattr(holder, key)
    return node


def write_slot(slot: Slot, node: ast.expr) -> None:
    holder, key = slot
    if isinstance(holder, list):
        holder[key] = node
    else:
        setattr(holder, key, node)


def slots_of(node: ast.AST) -> Iterator[Slot]:
    """The operands of a node in the order of their evaluation. Copies the lists and wrappers on the way."""
    if isinstance(node, ast.Dict):
        node.keys, node.values = list(node.keys), list(node.values)
        for index, key in enumerate(node.keys):
            if key is not None:
                yield node.keys, index
            yield node.values, index
        return
    for name, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], (ast.expr, ast.keyword)):
            copied = value[:]
            setattr(node, name, copied)
            for index, each in enumerate(copied):
                yield from _wrapped(copied, index, each)
        elif isinstance(value, ast.expr):
            yield from _wrapped(node, name, value)


def _wrapped(holder: Any, key: Any, node: ast.AST) -> Iterator[Slot]:
    if isinstance(node, (ast.keyword, ast.FormattedValue, ast.Slice)):  # no expressions by themselves
        node = copy.copy(node)
        write_slot((holder, key), node)  # type: ignore[arg-type]
        yield from [slot for slot in slots_of(node) if slot[1] != "format_spec"]
    else:
        yield holder, key


class KeepResult(ast.NodeTransformer):
    """Within statements that are left as they are: `return x` becomes `RESULT = x; return RESULT`."""

    def visit_Return(self, node: ast.Return) -> Any:
        if node.value is None or isinstance(node.value, ast.Constant):
            return node
        kept = ast.copy_location(assign(RESULT, node.value), node)
        return [kept, ast.copy_location(ast.Return(load(RESULT)), node)]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return node if isinstance(node, (*SCOPES, ast.expr)) else super().generic_visit(node)


class Emitter:
    """Collects statements, and hands out temporaries and takes them back."""

    def __init__(self, shared: Accesses, steps: dict[str, tuple[str, Touch]]) -> None:
        self.shared = shared
        self.steps = steps  # label -> global name of its Step, and what that touches
        self.out: list[ast.stmt] = []
        self.at: ast.AST = ast.Pass(lineno=1, col_offset=0)
        self.count = 0
        self.free: list[str] = []
        self.regions: list[set[str]] = [set()]  # temporaries taken within each try around us

    def temp(self) -> str:
        if self.free:
            name = self.free.pop()
        else:
            self.count += 1
            name = f"{TEMP}{self.count}"
        for region in self.regions:
            region.add(name)
        return name

    def put(self, node: ast.stmt) -> None:
        """Add a statement as it is."""
        if not hasattr(node, "lineno"):
            ast.copy_location(node, self.at)
        self.out.append(ast.fix_missing_locations(node))

    def emit(self, node: ast.stmt, keep: Iterable[str | None] = ()) -> None:
        """Add a statement that consumes the temporaries it loads, but for those to *keep*."""
        self.put(node)
        for each in forget(self.consume(node, keep)):
            self.put(each)

    def consume(self, node: ast.AST, keep: Iterable[str | None] = ()) -> set[str]:
        names = {
            each.id
            for each in ast.walk(node)
            if isinstance(each, ast.Name) and is_temp(each.id) and isinstance(each.ctx, ast.Load)
        } - set(keep)
        assert not names & set(self.free), f"consumed twice: {ast.unparse(node)}"
        self.free += sorted(names, reverse=True)
        return names

    def suspend(self, access: ast.AST, prefix: str = "", place: ast.AST | None = None) -> None:
        """Emit the step before *access*; *place* is what it touches, if it is a statement."""
        label = self.shared.label(access, prefix)
        if self.shared.is_guarded(place or access):
            self.put(ast.Expr(ast.Call(load(GUARD), [ast.Constant(label)], [])))
            return
        touched = self.shared.touched(place or access)
        assert touched[0] or prefix == "leave ", f"what does it touch? {label}"
        name, _ = self.steps.setdefault(label, (f"{STEP}_{len(self.steps)}", touched))
        self.put(ast.Expr(ast.Yield(load(name))))

    def block(self, fill: Callable[[], Any], first: Iterable[ast.stmt] = ()) -> list[ast.stmt]:
        """Return the statements that *fill* emits, after those of *first*."""
        outer, self.out = self.out, []
        for each in first:
            self.put(each)
        fill()
        inner, self.out = self.out, outer
        return inner

    def branch(self, test: ast.expr, fill: Callable[[], Any], otherwise: Callable[[], Any] = bool) -> None:
        """Emit an `if` both of whose arms begin by forgetting what the test consumed."""
        used = self.consume(test)
        at = self.at
        body = self.block(fill, forget(used))
        self.at = at
        orelse = self.block(otherwise, forget(used))
        self.at = at
        self.put(ast.If(test, body or [ast.Pass()], orelse))

    @contextmanager
    def located(self, node: ast.AST) -> Iterator[None]:
        before, self.at = self.at, node
        yield
        self.at = before


class Expressions(Emitter):
    """Lowers expressions. What comes back must be evaluated, or spilled, before anything else is emitted."""

    names_move = False  # may an operand rebind a name that an earlier operand has read?

    def lower(self, node: ast.expr) -> ast.expr:
        if not self.shared.steps(node):
            return node
        if self.shared.is_view(node):
            self.shared.refuse(node, "a view of a shared container needs list() around it")
        with self.located(node):
            method = getattr(self, f"lower_{type(node).__name__.lower()}", self.strict)
            lowered: ast.expr = method(node)
            return lowered

    def strict(self, original: ast.AST) -> Any:
        """Any node whose operands are all evaluated, once, in the order of its fields."""
        if isinstance(original, (ast.Await, ast.Yield, ast.YieldFrom)):
            self.shared.refuse(original, "not supported in a walked function")
        node = copy.copy(original)
        stepped = self.operands(list(slots_of(node)))
        if self.shared.is_access(original):
            for slot in stepped:
                self.spill_slot(slot)
            self.suspend(original)
        return node

    def operands(self, slots: list[Slot]) -> list[Slot]:
        """Lower each operand, spilling those before it if that emits anything; return the ones that did."""
        stepped: list[Slot] = []
        for index, slot in enumerate(slots):
            operand = read_slot(slot)
            if not self.shared.steps(operand) or self.shared.is_view(operand):
                continue  # the reader around a view is the access
            for before in slots[:index]:
                self.spill_slot(before)
            write_slot(slot, self.lower(operand))
            stepped.append(slot)
        return stepped

    def spill_slot(self, slot: Slot) -> None:
        operand = read_slot(slot)
        if isinstance(operand, ast.Starred):
            unpacked = self.spill(ast.List([operand], ast.Load()))
            write_slot(slot, ast.Starred(unpacked, ast.Load()))
        else:
            write_slot(slot, self.spill(operand))

    def spill(self, node: ast.expr) -> ast.expr:
        """Evaluate *node* now; return a name or constant that stands for it."""
        if isinstance(node, ast.Constant):
            return node
        if isinstance(node, ast.Name) and (is_temp(node.id) or not self.names_move):
            return node
        name = self.temp()
        self.emit(assign(name, node))
        return load(name)

    def test(self, node: ast.expr) -> ast.expr:
        """Lower an expression that is asked for its truth."""
        if self.shared.is_container(node):
            self.suspend(node)
            return node
        return self.lower(node)

    def lower_call(self, node: ast.Call) -> ast.expr:
        call = self.strict(node)
        if not self.shared.is_generator_call(node):
            return call  # type: ignore[no-any-return]
        name = self.temp()
        self.emit(assign(name, call))
        test = ast.Compare(ast.Call(load(TYPE), [load(name)], []), [ast.Is()], [load(GENERATOR)])
        run = assign(name, ast.YieldFrom(load(name)))
        self.put(ast.If(test, [run], []))
        return load(name)

    def lower_boolop(self, node: ast.BoolOp) -> ast.expr:
        if not any(self.shared.steps(each) or self.shared.is_container(each) for each in node.values[1:]):
            return ast.BoolOp(node.op, [self.test(node.values[0]), *node.values[1:]])
        name = self.temp()

        def chain(values: list[ast.expr]) -> None:
            self.emit(assign(name, self.test(values[0])))
            if len(values) > 1:
                body = self.block(lambda: chain(values[1:]), forget([name]))
                test = load(name) if isinstance(node.op, ast.And) else ast.UnaryOp(ast.Not(), load(name))
                self.put(ast.If(test, body, []))

        chain(node.values)
        return load(name)

    def lower_ifexp(self, node: ast.IfExp) -> ast.expr:
        test = self.test(node.test)
        if not self.shared.steps(node.body) and not self.shared.steps(node.orelse):
            return ast.IfExp(test, node.body, node.orelse)
        name = self.temp()
        self.branch(
            test,
            lambda: self.emit(assign(name, self.lower(node.body))),
            lambda: self.emit(assign(name, self.lower(node.orelse))),
        )
        return load(name)

    def lower_compare(self, node: ast.Compare) -> ast.expr:
        if len(node.ops) == 1:
            return self.strict(node)  # type: ignore[no-any-return]
        result = self.temp()
        left = self.spill(self.lower(node.left))
        self._compare(result, left, list(zip(node.ops, node.comparators)))
        return load(result)

    def _compare(self, result: str, left: ast.expr, rest: list[tuple[ast.cmpop, ast.expr]]) -> None:
        """`a < b < c`: b is evaluated once, and c only if the first comparison holds."""
        (op, operand), *more = rest
        right = self.lower(operand)
        access = self.shared.is_access_pair(left, op, operand)
        if more or access:
            right = self.spill(right)
        if access:
            self.suspend(self.at)
        held = [right.id] if more and isinstance(right, ast.Name) and is_temp(right.id) else []
        self.emit(assign(result, ast.Compare(left, [op], [right])), keep=held)
        if more:
            body = self.block(lambda: self._compare(result, right, more), forget([result]))
            self.put(ast.If(load(result), body, forget(held)))

    def lower_namedexpr(self, node: ast.NamedExpr) -> ast.expr:
        self.emit(ast.Assign([node.target], self.lower(node.value)))
        return load(node.target.id)

    def _comprehension(self, node: Any) -> ast.expr:
        node = copy.copy(node)
        node.generators = node.generators[:]
        first = node.generators[0] = copy.copy(node.generators[0])
        first.iter = self.lower(first.iter)
        return node  # type: ignore[no-any-return]

    lower_listcomp = lower_setcomp = lower_dictcomp = lower_generatorexp = _comprehension


def may_rebind(function: ast.FunctionDef) -> bool:
    """Does the function hold anything that rebinds one of its names in the middle of an expression?"""
    return any(isinstance(each, (ast.NamedExpr, ast.Nonlocal)) for each in ast.walk(function))
