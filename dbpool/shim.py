"""ksycopg2's names over psycopg2, for machines without ksycopg2: KingbaseES speaks PostgreSQL's protocol.

What KingbaseES's users write is translated: the default port 54321, KINGBASE_HOST, KINGBASE_PORT and KINGBASE_PASSWORD,
URIs that begin with ``kingbase://``, the options that only its library knows, and errors with a ``kbcode``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errorcodes, errors, extensions, extras, sql, tz  # noqa: F401  (offered under the same names)

if TYPE_CHECKING:
    from types import TracebackType

SUBMODULES = ("errorcodes", "errors", "extensions", "extras", "sql", "tz")
PORT = "54321"
SCHEMES = ("kingbase://", "kingbase8://", "postgresql://", "postgres://")
# Known to KingbaseES's library only: libpq would refuse them.
FOREIGN = frozenset(("delay", "loadbalance", "retries", "socket_timeout"))
# The DB-API names: Error, apilevel, Binary ... But connect is our own.
_NAMES = {name: value for name, value in vars(psycopg2).items() if name[0] != "_" and name != "connect"}
globals().update(_NAMES)


class _Telling:
    """Gives errors that pass through it the attributes by which ksycopg2's are known."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg2.Error):
            error.kbcode, error.kberror = error.pgcode, error.pgerror  # type: ignore[attr-defined]


def _telling(name: str) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _Telling():
            return getattr(super(type(self)._told, self), name)(*args, **kwargs)

    call.__name__ = name
    return call


@cache
def _told(kind: type) -> type:
    """Return a subclass of *kind*, a class of cursors, whose errors have a kbcode."""
    names = ("execute", "executemany", "callproc", "copy_expert", "copy_from", "copy_to", "fetchone", "fetchmany")
    body = {name: _telling(name) for name in names}
    made: Any = type(kind.__name__, (kind,), body)
    made._told = made
    return made  # type: ignore[no-any-return]


class connection(extensions.connection):  # noqa: N801  (the driver's own name for it)
    """A connection of psycopg2, whose errors have a kbcode."""

    def cursor(self, name: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        factory: Any = cursor_factory or getattr(self, "cursor_factory", None) or extensions.cursor
        if isinstance(factory, type):
            factory = _told(factory)
        return super().cursor(name, cursor_factory=factory, **kwargs)

    def commit(self) -> None:
        with _Telling():
            super().commit()

    def rollback(self) -> None:
        with _Telling():
            super().rollback()


def connect(dsn: Any = None, connection_factory: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:
    """Connect as ksycopg2.connect does; *dsn* may be a text, a URI, or a mapping of the keywords."""
    settings = {**(dsn if isinstance(dsn, Mapping) else parsed(dsn)), **kwargs}
    for name in FOREIGN & settings.keys():
        del settings[name]
    for name, default in (("host", None), ("port", PORT), ("password", None)):
        value = os.environ.get(f"KINGBASE_{name.upper()}", default)
        if settings.get(name) is None and value is not None and not (name == "host" and "hostaddr" in settings):
            settings[name] = value
    with _Telling():
        return psycopg2.connect(
            connection_factory=connection_factory or connection, cursor_factory=cursor_factory, **settings
        )


def parsed(dsn: str | None) -> dict[str, Any]:
    """Return the settings in *dsn*, a text of words or a URI."""
    if not dsn:
        return {}
    for scheme in SCHEMES:
        if dsn.startswith(scheme):
            dsn = f"postgresql://{dsn[len(scheme) :]}"
            break
    else:
        words = [word for word in dsn.split() if word.partition("=")[0].strip() not in FOREIGN]
        dsn = " ".join(words)
    return extensions.parse_dsn(dsn)


def as_modules(pool: ModuleType) -> dict[str, ModuleType]:
    """Return what ``import ksycopg2`` and its submodules find in sys.modules, with *pool* as ksycopg2.pool."""
    package = ModuleType("ksycopg2", __doc__)
    package.__path__ = []  # a package without files
    inner = {name: globals()[name] for name in SUBMODULES}
    vars(package).update(_NAMES, **inner, pool=pool, connect=connect, __version__=vars(psycopg2)["__version__"])
    return {"ksycopg2": package, "ksycopg2.pool": pool, **{f"ksycopg2.{name}": inner[name] for name in inner}}
