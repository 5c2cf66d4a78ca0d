"""Source: what a DSN on the command line means: which driver, and what its connect is given."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from dbpool.hidden import HiddenArgs, HiddenKwargs

POSTGRES, KINGBASE, MYSQL = ("psycopg2", "psycopg", "ksycopg2"), ("ksycopg2", "psycopg2"), ("pymysql", "MySQLdb")
FAMILIES = {
    "postgresql": POSTGRES,
    "postgres": POSTGRES,
    "kingbase": KINGBASE,
    "kingbase8": KINGBASE,
    "mysql": MYSQL,
    "mariadb": MYSQL,
}
DRIVERS = tuple(dict.fromkeys((*POSTGRES, *MYSQL)))
# As they are called on the package index, and in the URLs of SQLAlchemy.
OTHER_NAMES = {"mysqlclient": "MySQLdb", "mysqldb": "MySQLdb", "psycopg3": "psycopg"}
OF_MYSQL = ("charset", "unix_socket", "ssl_ca", "ssl_cert", "ssl_key")  # what may stand after the ? of its URI
# user:password@host:port,host:port, each part of which may be missing
AUTHORITY = re.compile(r"([^@]*@)?(\[[^\]@]*\]|[^:@\[\]]*)(:\d*)?(,(\[[^\]@]*\]|[^:@\[\]]*)(:\d*)?)*")
UNCLEAR = "the URI cannot be read: in a password, / @ : # ? and % are written as %2F %40 %3A %23 %3F and %25"


class BadSource(ValueError):
    """The DSN or the driver cannot be used; the text says why, and shows nothing of the DSN."""


class Source(NamedTuple):
    """A driver's name, the module whose connect is called, and its arguments, which do not show when printed.

    twin: the dbpool.* module whose pools take such a DSN as it is; None: those of dbpool, with ``connect=``.
    """

    driver: str
    module: Any
    twin: str | None
    args: HiddenArgs
    kwargs: HiddenKwargs

    def label(self) -> str:
        """Return the driver's name with its version, which each keeps elsewhere."""
        module = import_module(self.driver)
        version = getattr(module, "VERSION_STRING", None) or getattr(module, "__version__", None)
        if version is None:
            version = import_module(f"{self.driver}.release").__version__
        return f"{self.driver} {str(version).split()[0]}"

    def __repr__(self) -> str:
        return f"<Source {self.driver}>"


def read(dsn: str, driver: str | None = None) -> Source:
    """Return the source that *dsn* names, through *driver* or the first that is installed; raise BadSource."""
    is_uri = re.match(r"[a-zA-Z][\w+.-]*://", dsn)
    if not is_uri and "=" not in dsn:
        raise BadSource("a DSN is host=... dbname=... user=..., or a URI: postgresql://, kingbase:// or mysql://")
    scheme, _, rest = dsn.partition("://") if is_uri else ("postgresql", "", "")
    scheme, _, dialect = scheme.partition("+")
    family = FAMILIES.get(scheme.lower())
    if family is None:
        raise BadSource(f"the URI's scheme is not known; known are {', '.join(FAMILIES)}")
    if is_uri and not AUTHORITY.fullmatch(
        re.split("[/?#]", rest)[0]
    ):  # the driver would take and show a part as a host
        raise BadSource(UNCLEAR)
    wished = driver or dialect
    chosen, module = _imported(_known(wished, family) if wished else family)
    if family is MYSQL:
        return Source(chosen, module, None, HiddenArgs(), HiddenKwargs(_of_mysql(f"mysql://{rest}")))
    if is_uri:
        dsn = f"{'kingbase' if chosen == 'ksycopg2' or family is KINGBASE else 'postgresql'}://{rest}"
    if family is KINGBASE and chosen == "psycopg2":
        module = import_module("dbpool.shim")
    twin = "dbpool.ksycopg2" if family is KINGBASE or chosen == "ksycopg2" else None
    return Source(chosen, module, twin, HiddenArgs((dsn,)), HiddenKwargs())


def _known(name: str, family: tuple[str, ...]) -> tuple[str, ...]:
    name = OTHER_NAMES.get(name.lower(), name.lower())
    if name not in family:
        raise BadSource(f"this kind of DSN takes one of the drivers {', '.join(family)}")
    return (name,)


def _imported(names: tuple[str, ...]) -> tuple[str, Any]:
    """Return the first driver that can be imported."""
    reasons = []
    for name in names:
        try:
            return name, import_module(name)
        except ImportError as exc:
            reasons.append("" if isinstance(exc, ModuleNotFoundError) and exc.name == name else f" ({exc})")
    said = ", ".join(f"{name}{reason}" for name, reason in zip(names, reasons))
    raise BadSource(f"this DSN needs a driver, and none of these can be imported: {said}")


def _of_mysql(uri: str) -> dict[str, Any]:
    """Return the keywords for connect that a URI means."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise BadSource(UNCLEAR) from None
    keywords: dict[str, Any] = {"host": parts.hostname, "port": port, "database": unquote(parts.path[1:])}
    keywords.update(user=unquote(parts.username or ""), password=unquote(parts.password or ""))
    found = {name: value for name, value in keywords.items() if value}
    for name, value in parse_qsl(parts.query):
        if name not in OF_MYSQL:
            raise BadSource(f"after the ? of a MySQL URI may stand {', '.join(OF_MYSQL)}, and nothing else")
        kind, _, rest = name.partition("ssl_")
        if kind:
            found[name] = value
        else:
            found.setdefault("ssl", {})[rest] = value
    return found
