"""The statements of a walked function, and the function as a whole, in the form that lowering.py describes."""

from __future__ import annotations

import ast
import copy
from typing import Any

from .access import SCOPES, Accesses, Touch
from .lowering import (
    END,
    RESULT,
    WORLD,
    Expressions,
    KeepResult,
    Slot,
    assign,
    forget,
    is_temp,
    load,
    may_rebind,
    slots_of,
    store,
)


class Statements(Expressions):
    """Lowers the body of one function."""

    unwinding = 0  # try statements around us whose finally suspends: a return must leave nothing on the stack

    def body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return self.block(lambda: self.extend(statements))

    def statement(self, node: ast.stmt) -> None:
        with self.located(node):
            if self.shared.steps(node):
                getattr(self, f"do_{type(node).__name__.lower()}", self.unsupported)(node)
            elif self.unwinding:
                self.note_result()
                kept = KeepResult().visit(copy.deepcopy(node))
                for each in kept if isinstance(kept, list) else [kept]:
                    self.put(each)
            else:
                self.out.append(node)

    def unsupported(self, node: ast.stmt) -> None:
        self.shared.refuse(node, "this statement may not hold a shared access")

    # Simple statements

    def do_expr(self, node: ast.Expr) -> None:
        value = self.lower(node.value)
        if isinstance(value, ast.Name) and is_temp(value.id):
            for each in forget(self.consume(value)):
                self.put(each)
        elif not isinstance(value, (ast.Name, ast.Constant)):
            self.emit(ast.Expr(value))

    def do_return(self, node: ast.Return) -> None:
        assert node.value is not None
        value = self.lower(node.value)
        if self.unwinding:
            self.note_result()
            self.emit(assign(RESULT, value))
            value = load(RESULT)
        self.consume(value)
        self.put(ast.Return(value))

    def note_result(self) -> None:
        """A handler may forget the result of a return that failed; a finally may not: it is on its way."""
        for region in self.regions:
            region.add(RESULT)

    def do_assign(self, node: ast.Assign) -> None:
        value = self.lower(node.value)
        if not any(map(self.shared.steps, node.targets)):
            self.emit(ast.Assign(node.targets, value))
            return
        value = self.spill(value)
        kept = value.id if isinstance(value, ast.Name) else None
        for target in node.targets[:-1]:
            self.store(target, value, node, kept)
        self.store(node.targets[-1], value, node)

    def do_annassign(self, node: ast.AnnAssign) -> None:
        assert node.value is not None
        self.do_assign(ast.copy_location(ast.Assign([node.target], node.value), node))

    def store(self, target: ast.expr, value: ast.expr, node: ast.stmt, keep: str | None = None) -> None:
        """Store a value that stands in a name or constant."""
        if isinstance(target, (ast.Tuple, ast.List)) and self.shared.steps(target):
            self._unpack(target, value, node, keep)
            return
        lowered = self.place(target)
        if self.shared.is_access(target):
            self.suspend(node, place=target)
        self.emit(ast.Assign([lowered], value), [keep])

    def _unpack(self, target: Any, value: ast.expr, node: ast.stmt, keep: str | None) -> None:
        names = [self.temp() for _ in target.elts]
        starred = [isinstance(each, ast.Starred) for each in target.elts]
        parts = [ast.Starred(store(name), ast.Store()) if star else store(name) for name, star in zip(names, starred)]
        self.emit(ast.Assign([ast.Tuple(parts, ast.Store())], value), [keep])
        for name, star, each in zip(names, starred, target.elts):
            self.store(each.value if star else each, load(name), node)

    def place(self, target: Any) -> Any:
        """Evaluate what a target consists of (`a.b` of `a.b[c] = ...`), so that only the store is left."""
        target = copy.copy(target)
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            for slot in self.operands(list(slots_of(target))):
                self.spill_slot(slot)
        return target

    def do_augassign(self, node: ast.AugAssign) -> None:
        """Load, compute, store: two steps if the target is shared."""
        if self.shared.is_container(node.target):
            self.shared.refuse(node, "an augmented store on a whole container")
        if isinstance(node.target, ast.Name):
            self.emit(ast.AugAssign(node.target, node.op, self.lower(node.value)))
            return
        target = copy.copy(node.target)
        slots: list[Slot] = list(slots_of(target))
        self.operands(slots)
        for slot in slots:
            self.spill_slot(slot)
        held = [each.id for each in (getattr(*slot) for slot in slots) if isinstance(each, ast.Name)]
        access = self.shared.is_access(node.target)
        if access:
            self.suspend(node, "load of ", node.target)
        result = self.temp()
        source = copy.copy(target)
        source.ctx = ast.Load()
        self.emit(assign(result, source), held)
        self.emit(ast.AugAssign(store(result), node.op, self.lower(node.value)), held)
        if access:
            self.suspend(node, "store of ", node.target)
        self.emit(ast.Assign([target], load(result)))

    def do_delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            lowered = self.place(target)
            if self.shared.is_access(target):
                self.suspend(node, place=target)
            self.emit(ast.Delete([lowered]))

    def do_raise(self, node: ast.Raise) -> None:
        lowered = copy.copy(node)
        self.operands(list(slots_of(lowered)))
        self.consume(lowered)
        self.put(lowered)

    def do_assert(self, node: ast.Assert) -> None:
        def fail() -> None:
            message = [self.lower(node.msg)] if node.msg else []
            self.put(ast.Raise(ast.Call(load("AssertionError"), message, []), None))

        self.branch(ast.UnaryOp(ast.Not(), self.test(node.test)), fail)

    # Compound statements

    def do_if(self, node: ast.If) -> None:
        self.branch(self.test(node.test), lambda: self.extend(node.body), lambda: self.extend(node.orelse))

    def extend(self, statements: list[ast.stmt]) -> None:
        for each in statements:
            self.statement(each)

    def do_while(self, node: ast.While) -> None:
        if node.orelse:
            self.shared.refuse(node, "while ... else")

        def turn() -> None:
            if not isinstance(node.test, ast.Constant) or not node.test.value:
                self.branch(self.test(node.test), bool, lambda: self.put(ast.Break()))
            self.extend(node.body)

        self.put(ast.While(ast.Constant(True), self.block(turn), []))

    def do_for(self, node: ast.For) -> None:
        """A real iterator in a temporary: over a shared container, each next() is a step of its own."""
        if node.orelse or self.shared.steps(node.target):
            self.shared.refuse(node, "for ... else, or a shared target")
        shared = self.shared.is_shared(node.iter)
        source = node.iter if shared else self.lower(node.iter)
        iterator, item = self.temp(), self.temp()
        if shared:
            self.suspend(node.iter, "iter of ")
        self.emit(assign(iterator, ast.Call(load("iter"), [source], [])))

        def turn() -> None:
            if shared:
                self.suspend(node.iter, "next of ")
            self.put(assign(item, ast.Call(load("next"), [load(iterator), load(END)], [])))
            ends = ast.Compare(load(item), [ast.Is()], [load(END)])
            self.put(ast.If(ends, [*forget([item]), ast.Break()], []))
            self.emit(ast.Assign([node.target], load(item)))
            self.extend(node.body)

        self.put(ast.While(ast.Constant(True), self.block(turn), []))
        for each in forget(self.consume(load(iterator))):
            self.put(each)

    def do_with(self, node: ast.With) -> None:
        """`with lock:`; any other kind would keep a context manager on the value stack."""
        item, *more = node.items
        if not self.shared.is_lock(item) or item.optional_vars is not None:
            self.shared.refuse(node, "shared access in a with that is not on a lock")
        lock = self.temp()
        self.emit(assign(lock, self.lower(item.context_expr)))
        label = ast.Constant(self.shared.label(item.context_expr, "with "))
        enter = ast.Call(ast.Attribute(load(lock), "enter", ast.Load()), [label], [])
        self.put(ast.Expr(ast.YieldFrom(enter)))

        def leave() -> None:
            self.suspend(item.context_expr, "leave ")
            self.emit(ast.Expr(ast.Call(ast.Attribute(load(lock), "release", ast.Load()), [], [])))

        inner = ast.copy_location(ast.With(more, node.body), node) if more else None
        self._try(lambda: self.statement(inner) if inner else self.extend(node.body), [], [], leave)

    def do_try(self, node: ast.Try) -> None:
        if any(self.shared.steps(each.type) for each in node.handlers):
            self.shared.refuse(node, "shared access in the class that an except names")
        suspends = any(map(self.shared.steps, node.finalbody))
        if suspends and any(map(leaves_loop, node.finalbody)):
            self.shared.refuse(node, "break or continue in a finally")
        finish = (lambda: self.extend(node.finalbody)) if node.finalbody else None
        self._try(lambda: self.extend(node.body), node.handlers, node.orelse, finish, suspends)

    def _try(
        self,
        run: Any,
        handlers: list[ast.ExceptHandler],
        orelse: list[ast.stmt],
        finish: Any,
        suspends: bool = True,
    ) -> None:
        """Exceptions empty the value stack, so handlers and finally begin by forgetting the temporaries."""
        unwinds = bool(finish) and suspends
        self.unwinding += unwinds
        self.regions = [*self.regions, set()]
        body = self.block(run)
        caught = [self._handler(each) for each in handlers]
        otherwise = self.block(lambda: self.extend(orelse))
        self.unwinding -= unwinds
        *self.regions, taken = self.regions
        final = self.block(finish, [unless_over(), *forget(taken - {RESULT})]) if finish else []
        self.put(ast.Try(body or [ast.Pass()], caught, otherwise, final))

    def _handler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        """The exception gets a name if it has none: what a suspended frame holds must be in its locals."""
        with self.located(node):
            new = copy.copy(node)
            if new.name is None and any(map(self.shared.steps, node.body)):
                new.type, new.name = new.type or load("BaseException"), "_walk_error"
            first = [unless_over(), *forget(self.regions[-1])]
            new.body = self.block(lambda: self.extend(node.body), first)
            return new


def unless_over() -> ast.stmt:
    """`if World.over: raise`: a run that is left unwinds without a further step."""
    return ast.If(ast.Attribute(load(WORLD), "over", ast.Load()), [ast.Raise(None, None)], [])


def leaves_loop(node: ast.AST) -> bool:
    """Does the statement hold a break or continue of a loop around it?"""
    if isinstance(node, (ast.For, ast.While, *SCOPES)):
        return any(map(leaves_loop, getattr(node, "orelse", ())))
    return isinstance(node, (ast.Break, ast.Continue)) or any(map(leaves_loop, ast.iter_child_nodes(node)))


def lower_function(node: ast.FunctionDef, shared: Accesses, steps: dict[str, tuple[str, Touch]]) -> ast.FunctionDef:
    """Return the generator function that does what *node* does, step by step."""
    lowering = Statements(shared, steps)
    lowering.names_move = may_rebind(node)
    lowering.at = node
    new = copy.copy(node)
    new.body = lowering.body(node.body)
    if lowering.count:  # a traceback must not hold what the value stack would have dropped
        again = [*forget(lowering.regions[0]), ast.Raise(None, None)]
        handler = ast.ExceptHandler(load("BaseException"), None, again)
        new.body = [ast.Try(new.body, [handler], [], [])]
    return ast.fix_missing_locations(new)
