"""Gives each real driver the same face, so that one suite runs on all of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clusters import new_cluster
from servers import import_or_skip

from dbpool import PersistentConnectionPool, SimpleConnectionPool, ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster, Installation


class Sqlite:
    """sqlite3 over a file."""

    placeholder = "?"
    attribute, changed = "row_factory", sqlite3.Row  # something that reset="clean" restores

    def __init__(self, path: str) -> None:
        self.module: Any = sqlite3
        self.arguments = (path,)
        self.keywords = {"timeout": 30}

    def pool(self, kind: Any = ThreadedConnectionPool, minconn: int = 0, maxconn: int = 2, **options: Any) -> Any:
        config = {"timeout": 2, **options}
        return kind(minconn, maxconn, *self.arguments, connect=self.module, config=config, **self.keywords)

    def connect(self) -> Any:
        return self.module.connect(*self.arguments, **self.keywords)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.in_transaction)


class Psycopg2(Sqlite):
    """psycopg2 with a real PostgreSQL."""

    placeholder = "%s"
    attribute, changed = "autocommit", True
    driver = "psycopg2"

    def __init__(self, dsn: str) -> None:
        self.module = import_or_skip(self.driver)
        self.arguments = (dsn,)
        self.keywords = {"application_name": "dbpool test"}

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.get_transaction_status())


class Ksycopg2(Psycopg2):
    """KingbaseES's driver, with a real PostgreSQL."""

    driver = "ksycopg2"

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        name_socket_for_kingbase(dsn)


def name_socket_for_kingbase(dsn: str) -> None:
    """Give the server's Unix socket the name under which KingbaseES's drivers look for it, too."""
    words = dict(word.split("=", 1) for word in dsn.split() if "=" in word)
    folder, port = Path(words.get("host", "").strip("'")), words.get("port", "5432").strip("'")
    kingbase = folder / f".s.KINGBASE.{port}"
    if folder.is_absolute() and not kingbase.is_symlink():
        kingbase.symlink_to(f".s.PGSQL.{port}")


class Psycopg3(Psycopg2):
    """psycopg 3 with a real PostgreSQL."""

    driver = "psycopg"

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.info.transaction_status)


POSTGRES = {"psycopg2": Psycopg2, "ksycopg2": Ksycopg2, "psycopg": Psycopg3}


@pytest.fixture(
    params=[SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool],
    ids=["Simple", "Threaded", "Persistent"],
)
def kind(request: pytest.FixtureRequest) -> Any:
    """Each class."""
    return request.param


@pytest.fixture(params=["sqlite3", *POSTGRES])
def database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    """Each driver, with an empty table `note`."""
    if request.param == "sqlite3":
        database: Any = Sqlite(str(tmp_path / "notes.db"))
    else:
        database = POSTGRES[request.param](request.getfixturevalue("server").dsn)
    with closing(database.connect()) as conn:
        cursor = conn.cursor()
        cursor.execute("DROP TABLE IF EXISTS note")
        cursor.execute("DROP TABLE IF EXISTS account")
        cursor.execute("CREATE TABLE note (body TEXT)")
        conn.commit()
        yield database


@pytest.fixture(params=["psycopg2", "ksycopg2"])
def postgres(request: pytest.FixtureRequest, server: Any) -> Psycopg2:
    """psycopg2, and its fork."""
    found: Psycopg2 = POSTGRES[request.param](server.dsn)
    return found


@pytest.fixture(params=[*POSTGRES])
def postgres_of_any_kind(request: pytest.FixtureRequest, server: Any) -> Psycopg2:
    """Each driver that speaks to PostgreSQL."""
    found: Psycopg2 = POSTGRES[request.param](server.dsn)
    return found


@pytest.fixture(scope="module")
def tcp(installation: Installation) -> Iterator[Cluster]:
    """A server of the module's own, which listens on TCP and asks for a password."""
    import_or_skip("psycopg2")
    with new_cluster(installation) as cluster:
        yield cluster.start()
