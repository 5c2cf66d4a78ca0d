"""ksycopg2.pool's twin, for KingbaseES (人大金仓): the same names and arguments, also where ksycopg2 is missing.

Over ksycopg2 if that is installed, else over psycopg2 with KingbaseES's habits translated (shim.py). All other names of
the driver (``connect``, ``extensions``, ``extras``, ``errors``, ``sql``, ``Error`` ...) can be had from here, too.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from dbpool import pool
from dbpool.errors import bind
from dbpool.twins import NAMES, Dispatching, Replacement, Twin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbpool.config import PoolConfig

__all__ = [
    "AbstractConnectionPool", "PersistentConnectionPool", "PoolError", "SimpleConnectionPool", "ThreadedConnectionPool",
    "install", "uninstall",
]  # fmt: skip
MISSING = (
    "neither ksycopg2 nor psycopg2 is installed: from the checkout run `pip install .[ksycopg2]` or `.[psycopg2]`\n"
    "ksycopg2 和 psycopg2 都没有安装：请在源码目录运行 `pip install .[ksycopg2]` 或 `pip install .[psycopg2]`"  # noqa: RUF001
)
BROKEN = (
    "ksycopg2 is installed but cannot be loaded: put the folder of libkci and libssl into LD_LIBRARY_PATH"
    " (on Windows: PATH)\n"
    "ksycopg2 已安装但无法加载：请把 libkci、libssl 所在目录加入 LD_LIBRARY_PATH（Windows 下为 PATH）"  # noqa: RUF001
)


def _found() -> tuple[Any, type[BaseException], bool]:
    """Return the driver, the PoolError that is known already, and whether the driver is ksycopg2 itself."""
    try:
        driver = import_module("ksycopg2")
        return driver, import_module("ksycopg2.pool").PoolError, True
    except ModuleNotFoundError as exc:
        if exc.name != "ksycopg2":
            raise ImportError(f"{BROKEN}\n{exc}", name="ksycopg2") from exc
    except ImportError as exc:
        raise ImportError(f"{BROKEN}\n{exc}", name="ksycopg2") from exc
    try:
        return import_module("dbpool.shim"), import_module("psycopg2.pool").PoolError, False
    except ModuleNotFoundError as exc:
        raise ImportError(MISSING, name="ksycopg2") from exc


_driver, _known_error, _is_real = _found()
PoolError = bind(_known_error).PoolError  # a ksycopg2.pool.PoolError, and so a ksycopg2.Error


class _Ksycopg2(Twin):
    _module: ClassVar[Any] = _driver
    _error = _known_error

    @staticmethod
    def _translated(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """KingbaseES's library knows but one scheme of URIs."""
        if _is_real:
            if args:
                dsn, *others = args
                args = ((lambda: _kingbase_uri(dsn())) if callable(dsn) else _kingbase_uri(dsn), *others)
            elif "dsn" in kwargs:
                kwargs = {**kwargs, "dsn": _kingbase_uri(kwargs["dsn"])}
        return args, kwargs


def _kingbase_uri(dsn: Any) -> Any:
    if isinstance(dsn, str):
        scheme, mark, rest = dsn.partition("://")
        if mark and scheme in ("postgresql", "postgres", "kingbase8"):
            return f"kingbase://{rest}"
    return dsn


class AbstractConnectionPool(_Ksycopg2, pool.AbstractConnectionPool[Any]):
    """ksycopg2.pool.AbstractConnectionPool. Used directly, as the manual does, it is a SimpleConnectionPool."""


class SimpleConnectionPool(AbstractConnectionPool, pool.SimpleConnectionPool[Any]):
    """ksycopg2.pool.SimpleConnectionPool: for one thread; it never waits."""


class ThreadedConnectionPool(AbstractConnectionPool, pool.ThreadedConnectionPool[Any], Dispatching):
    """ksycopg2.pool.ThreadedConnectionPool; threads that can be served wait, up to ``timeout``."""


class PersistentConnectionPool(AbstractConnectionPool, pool.PersistentConnectionPool[Any], Dispatching):
    """The pool that the manual shows and ksycopg2 lacks: each thread has a connection of its own."""


_replacement = Replacement(_Ksycopg2, globals())
_shim: dict[str, ModuleType] = {}  # what install() put into sys.modules


def install(config: PoolConfig | Mapping[str, Any] | None = None) -> None:
    """Have ``ksycopg2.pool`` offer these classes; *config*: the options of pools that are made from now on.

    Where ksycopg2 is not installed, ``import ksycopg2`` finds the shim from now on.
    """
    if not _is_real and sys.modules.get("ksycopg2") is None:
        _shim.update(_driver.as_modules(_pool_module()))
        sys.modules.update(_shim)
    _replacement.install(sys.modules["ksycopg2.pool"], config)


def uninstall() -> None:
    """Have ``ksycopg2.pool`` offer its own classes again; a shim is removed."""
    module = sys.modules.get("ksycopg2.pool")
    if module is not None:
        _replacement.uninstall(module)
    for name in list(_shim):
        if sys.modules.get(name) is _shim.pop(name):
            del sys.modules[name]


def _pool_module() -> ModuleType:
    made = ModuleType("ksycopg2.pool", __doc__)
    made.PoolError = PoolError  # type: ignore[attr-defined]
    vars(made).update((name, globals()[name]) for name in NAMES)
    return made


def __getattr__(name: str) -> Any:
    """Find the driver's own names, and its submodules."""
    if not name.startswith("__"):
        try:
            return getattr(_driver, name)
        except AttributeError:
            pass
        try:
            return import_module(f"{_driver.__name__}.{name}")
        except ModuleNotFoundError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
