"""ksycopg2's names over psycopg2, for machines without ksycopg2: KingbaseES speaks PostgreSQL's protocol.

What KingbaseES's users write is translated: the default port 54321, KINGBASE_HOST, KINGBASE_PORT and KINGBASE_PASSWORD,
URIs that begin with ``kingbase://``, the options that only its library knows, and errors with a ``kbcode``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.machinery import ModuleSpec
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
FOREIGN = re.compile("delay|loadbalance|retries|socket_timeout|failover_.*")
WORD = re.compile(r"\s*(\w+)\s*=\s*('(\\.|[^'\\])*'|(\\.|[^\\\s])*)", re.DOTALL)  # name = value, as libpq reads it
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


def _telling(own: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _Telling():
            return own(self, *args, **kwargs)

    call.__name__ = own.__name__
    return call


@cache
def _told(kind: type, *names: str) -> type:
    """Return a subclass of *kind* whose methods *names* raise errors that have a kbcode."""
    return type(kind.__name__, (kind,), {name: _telling(getattr(kind, name)) for name in names})


OF_CURSORS = (
    "execute", "executemany", "callproc", "copy_expert", "copy_from", "copy_to", "fetchone", "fetchmany", "fetchall",
    "scroll", "close", "__next__",
)  # fmt: skip
OF_CONNECTIONS = ("commit", "rollback", "reset", "set_session", "__exit__")


class connection(extensions.connection):  # noqa: N801  (the driver's own name for it)
    """A connection of psycopg2, whose cursors' errors have a kbcode."""

    def cursor(self, name: Any = None, cursor_factory: Any = None, *args: Any, **kwargs: Any) -> Any:
        factory: Any = cursor_factory or getattr(self, "cursor_factory", None) or extensions.cursor
        if isinstance(factory, type):
            factory = _told(factory, *OF_CURSORS)
        return super().cursor(name, factory, *args, **kwargs)


@cache
def _connection_of(kind: type) -> type:
    """Return a subclass of *kind*, a class of connections, whose errors have a kbcode."""
    both = kind if issubclass(kind, connection) else type(kind.__name__, (kind, connection), {})
    return _told(both, *OF_CONNECTIONS)


def connect(dsn: Any = None, connection_factory: Any = None, cursor_factory: Any = None, **kwargs: Any) -> Any:
    """Connect as ksycopg2.connect does; *dsn* may be a text, a URI, or a mapping of the keywords."""
    factory = connection_factory or connection
    if isinstance(factory, type):
        factory = _connection_of(factory)
    with _Telling():
        given = _renamed(dsn) if isinstance(dsn, Mapping) else parsed(dsn)
        settings = _completed({**given, **_renamed(kwargs)})
        return psycopg2.connect(connection_factory=factory, cursor_factory=cursor_factory, **settings)


def _completed(given: dict[str, Any]) -> dict[str, Any]:
    """Return *given* with KingbaseES's defaults, and without the options that only its library knows."""
    settings = {name: value for name, value in given.items() if not FOREIGN.fullmatch(name)}
    for name, default in (("host", None), ("port", PORT), ("password", None)):
        value = os.environ.get(f"KINGBASE_{name.upper()}", default)
        if settings.get(name) is None and value is not None and not (name == "host" and "hostaddr" in settings):
            settings[name] = value
    return settings


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return *settings* with their ``database`` under its other name."""
    if settings.get("database") is None:
        return dict(settings)
    if settings.get("dbname") is not None:
        raise TypeError("you can't specify both 'database' and 'dbname' arguments")
    return {"dbname" if name == "database" else name: value for name, value in settings.items() if name != "dbname"}


def parsed(dsn: str | None) -> dict[str, Any]:
    """Return the settings in *dsn*, a text of words or a URI, without those that only KingbaseES's library knows."""
    if not dsn:
        return {}
    for scheme in SCHEMES:
        if dsn.startswith(scheme):
            address, mark, query = dsn[len(scheme) :].partition("?")
            known = [pair for pair in query.split("&") if not FOREIGN.fullmatch(pair.partition("=")[0])]
            return extensions.parse_dsn(f"postgresql://{address}{mark}{'&'.join(known)}")
    return extensions.parse_dsn(WORD.sub(lambda word: "" if FOREIGN.fullmatch(word[1]) else word[0], dsn))


def as_modules(pool: ModuleType) -> dict[str, ModuleType]:
    """Return what ``import ksycopg2`` and its submodules find in sys.modules, with *pool* as ksycopg2.pool."""
    package = ModuleType("ksycopg2", __doc__)
    package.__path__ = []  # a package without files
    for module in (package, pool):
        module.__spec__ = ModuleSpec(module.__name__, None, is_package=module is package)
    inner = {name: globals()[name] for name in SUBMODULES}
    vars(package).update(_NAMES, **inner, pool=pool, connect=connect, __version__=vars(psycopg2)["__version__"])
    return {"ksycopg2": package, "ksycopg2.pool": pool, **{f"ksycopg2.{name}": inner[name] for name in inner}}
