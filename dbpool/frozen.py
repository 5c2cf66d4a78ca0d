"""Frozen: a value that is made once and never changed. (Importing dataclasses takes longer than this package.)"""

from __future__ import annotations

from typing import Any


class Frozen:
    """The fields are the slots of the class. Values are equal if they are of one class and all fields are."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, **fields: Any) -> None:
        for field in self.__slots__:
            object.__setattr__(self, field, fields[field])

    def _asdict(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__slots__}

    def __setattr__(self, field: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: {field}")

    def __delattr__(self, field: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: {field}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._asdict() == self._asdict()

    def __hash__(self) -> int:
        return hash(tuple(self._asdict().items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._asdict())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in self._asdict().items())})"


def _rebuild(kind: Any, fields: dict[str, Any]) -> Any:
    return kind(**fields)
