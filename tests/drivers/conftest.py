"""Gives each real driver the same face, so that one suite runs on all of them."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from asking import tell
from clusters import new_cluster
from servers import import_or_skip
from unit.threads import eventually

from dbpool import PersistentConnectionPool, SimpleConnectionPool, ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Cluster, Installation


class Sqlite:
    """sqlite3 over a file."""

    placeholder = "?"
    attribute, changed = "row_factory", sqlite3.Row  # something that reset="clean" restores
    with_closes = False  # the driver's own ``with conn:`` closes it

    def __init__(self, path: str) -> None:
        self.module: Any = sqlite3
        self.arguments = (path,)
        self.keywords = {"timeout": 30}

    def pool(self, kind: Any = ThreadedConnectionPool, minconn: int = 0, maxconn: int = 2, **options: Any) -> Any:
        config = {"timeout": 2, **options}
        return kind(minconn, maxconn, *self.arguments, connect=self.module, config=config, **self.keywords)

    def connect(self, **keywords: Any) -> Any:
        return self.module.connect(*self.arguments, **self.keywords, **keywords)

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
    with_closes = True

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.info.transaction_status)


class Pymysql(Sqlite):
    """PyMySQL with a real MariaDB."""

    placeholder = "%s"
    attribute = "cursorclass"
    with_closes = True
    driver = "pymysql"

    def __init__(self, **keywords: Any) -> None:
        self.module = import_or_skip(self.driver)
        self.changed = import_or_skip(f"{self.driver}.cursors").DictCursor
        self.arguments = (keywords,)  # in the place of a DSN
        self.keywords = {"charset": "utf8mb4"}

    def connect(self, **keywords: Any) -> Any:
        return self.module.connect(**self.arguments[0], **self.keywords, **keywords)

    def in_transaction(self, conn: Any) -> bool:
        with closing(conn.cursor()) as cursor:
            cursor.execute("SELECT @@in_transaction")
            return bool(cursor.fetchone()[0])


class Mysqlclient(Pymysql):
    """mysqlclient with a real MariaDB."""

    driver = "MySQLdb"


MYSQL = {"pymysql": Pymysql, "mysqlclient": Mysqlclient}
POSTGRES = {"psycopg2": Psycopg2, "ksycopg2": Ksycopg2, "psycopg": Psycopg3}


@pytest.fixture(
    params=[SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool],
    ids=["Simple", "Threaded", "Persistent"],
)
def kind(request: pytest.FixtureRequest) -> Any:
    """Each class."""
    return request.param


@pytest.fixture(params=["sqlite3", *POSTGRES, *MYSQL])
def database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Any]:
    """Each driver, with an empty table `note`."""
    if request.param == "sqlite3":
        database: Any = Sqlite(str(tmp_path / "notes.db"))
    elif request.param in MYSQL:
        database = MYSQL[request.param](**request.getfixturevalue("mariadb"))
    else:
        database = POSTGRES[request.param](request.getfixturevalue("server").dsn)
    with closing(database.connect()) as conn:
        cursor = conn.cursor()
        cursor.execute("DROP TABLE IF EXISTS note")
        cursor.execute("DROP TABLE IF EXISTS account")
        cursor.execute("CREATE TABLE note (body TEXT)")
        conn.commit()
        yield database


@pytest.fixture(params=[*MYSQL])
def mysql(request: pytest.FixtureRequest, mariadb: dict[str, Any]) -> Pymysql:
    """Each driver that speaks to MySQL, without threads."""
    found: Pymysql = MYSQL[request.param](**mariadb)
    return found


@pytest.fixture
def other(mysql):
    """A connection of another's, in autocommit mode."""
    with closing(mysql.connect(autocommit=True)) as conn:
        tell(conn, "CREATE OR REPLACE TABLE item (id int PRIMARY KEY, body text)", "INSERT INTO item VALUES (1, 'tea')")
        yield conn


@pytest.fixture
def guest(mysql, other):
    """The same server for a user who may only use the tables."""
    tell(
        other, "CREATE OR REPLACE USER guest@localhost IDENTIFIED BY 'guest'", "GRANT ALL ON mysql.* TO guest@localhost"
    )
    return type(mysql)(**{**mysql.arguments[0], "user": "guest", "password": "guest"})


def _is_stopped(thread: Path) -> bool:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def frozen(mariadb_and_pid: tuple[dict[str, Any], int]) -> Callable[[], AbstractContextManager[None]]:
    """Freezes the MariaDB for a block, with all its sessions."""
    pid = mariadb_and_pid[1]

    @contextmanager
    def frozen() -> Iterator[None]:
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: all(_is_stopped(thread) for thread in Path(f"/proc/{pid}/task").iterdir()))
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    return frozen


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
