"""The arguments of connect, which are not to be seen when printed: there are passwords among them."""

from __future__ import annotations

from typing import Any


class HiddenArgs(tuple):  # type: ignore[type-arg]
    """Positional arguments of connect: a DSN among them must not be seen when printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} hidden>"


class HiddenKwargs(dict[str, Any]):
    """Keyword arguments of connect: a password among them must not be seen when printed."""

    def __repr__(self) -> str:
        return f"<{len(self)} hidden>"

    __str__ = __repr__
