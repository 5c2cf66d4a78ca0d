"""Gives each real driver the same face, so that one suite runs on all of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from clusters import new_cluster
from servers import import_or_skip

from dbpool import ThreadedConnectionPool

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

    def __init__(self, dsn: str) -> None:
        self.module = import_or_skip("psycopg2")
        self.arguments = (dsn,)
        self.keywords = {"application_name": "dbpool test"}

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.get_transaction_status())


@pytest.fixture(params=["sqlite3", "psycopg2"])
def database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    """Each driver, with an empty table `note`."""
    if request.param == "sqlite3":
        database: Any = Sqlite(str(tmp_path / "notes.db"))
    else:
        database = Psycopg2(request.getfixturevalue("server").dsn)
    with closing(database.connect()) as conn:
        cursor = conn.cursor()
        cursor.execute("DROP TABLE IF EXISTS note")
        cursor.execute("DROP TABLE IF EXISTS account")
        cursor.execute("CREATE TABLE note (body TEXT)")
        conn.commit()
        yield database


@pytest.fixture
def postgres(server: Any) -> Psycopg2:
    """psycopg2 alone."""
    return Psycopg2(server.dsn)


@pytest.fixture(scope="module")
def tcp(installation: Installation) -> Iterator[Cluster]:
    """A server of the module's own, which listens on TCP and asks for a password."""
    import_or_skip("psycopg2")
    with new_cluster(installation) as cluster:
        yield cluster.start()
