"""Planting: other lines in the shipped source, put into the functions that run, and taken out again."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def _methods(code: CodeType) -> dict[tuple[str, str], CodeType]:
    """Return the code of each method in a module's code, by the names of the class and the method."""
    return {
        (outer.co_name, inner.co_name): inner
        for outer in code.co_consts if isinstance(outer, CodeType)
        for inner in outer.co_consts if isinstance(inner, CodeType)
    }  # fmt: skip


@contextmanager
def planted(module_name: str, *changes: tuple[str, str]) -> Iterator[None]:
    """Have the methods in *module_name* run with the text of each change replaced, which must be there once."""
    module = sys.modules[module_name]
    source = inspect.getsource(module)
    before = _methods(compile(source, str(module.__file__), "exec"))
    for old, new in changes:
        assert source.count(old) == 1, f"{module_name} has not once, but {source.count(old)} times: {old}"
        source = source.replace(old, new)
    kept: list[tuple[FunctionType, CodeType]] = []
    for (owner, name), code in _methods(compile(source, str(module.__file__), "exec")).items():
        function = getattr(getattr(module, owner), name, None)
        if code != before[owner, name] and isinstance(function, FunctionType):
            kept.append((function, function.__code__))
            function.__code__ = code
    try:
        yield
    finally:
        for function, code in kept:
            function.__code__ = code
