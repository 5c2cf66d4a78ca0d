"""The demo's bank: accounts and a log of transfers, in a sqlite3 file or in a schema of a PostgreSQL."""

from __future__ import annotations

import secrets
import sqlite3
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool import ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNTS, OPENING_BALANCE = 10, 1_000
LOCK_SECONDS = 5.0  # how long a sqlite3 connection waits for another one's transaction to end


class InsufficientFunds(Exception):
    """The account has less than is to be taken from it."""


class Mishap(Exception):
    """Raised on purpose, when the money has left one account and not reached the other."""


class Busy(Exception):
    """The database was locked for too long; the transaction did not begin."""


class Order(NamedTuple):
    """One transfer to make; with *mishap*, one to fail in the middle."""

    source: int
    target: int
    amount: int
    mishap: bool


class Bank:
    """What both databases have in common. begin, debit, credit: one transfer on a connection."""

    name: str
    error: type[Exception]
    mark = "?"  # a parameter in a statement
    prefix = ""  # before the name of a table

    def opened(self) -> Any:
        """Return a context manager that makes the tables and takes them away again."""
        raise NotImplementedError

    def connect(self) -> Any:
        """Open a connection beside the pool."""
        raise NotImplementedError

    def new_pool(self, connections: int, **options: Any) -> ThreadedConnectionPool[Any]:
        """Return a pool of at most so many connections; *options* as PoolConfig has them."""
        raise NotImplementedError

    def begin(self, conn: Any, order: Order) -> None:
        """Begin the transaction of *order* so that no two can wait for each other."""
        raise NotImplementedError

    def debit(self, conn: Any, order: Order) -> None:
        """Take the amount; raises InsufficientFunds when it is gone: a rollback must bring it back."""
        self._run(conn, "UPDATE {}account SET balance = balance - ? WHERE id = ?", order.amount, order.source)
        balance = self._run(conn, "SELECT balance FROM {}account WHERE id = ?", order.source).fetchone()[0]
        if balance < 0:
            raise InsufficientFunds

    def credit(self, conn: Any, order: Order) -> None:
        """Bring the amount to its target, and write it into the log; raises Mishap if that is planned."""
        if order.mishap:
            raise Mishap
        self._run(conn, "UPDATE {}account SET balance = balance + ? WHERE id = ?", order.amount, order.target)
        log = "INSERT INTO {}transfer (source, target, amount) VALUES (?, ?, ?)"
        self._run(conn, log, order.source, order.target, order.amount)

    def total(self) -> int:
        """The money of all accounts together."""
        return self._count("SELECT sum(balance) FROM {}account")

    def logged(self) -> int:
        """How many transfers the log has."""
        return self._count("SELECT count(*) FROM {}transfer")

    def explain(self, error: BaseException) -> str:
        """Say what went wrong."""
        return " ".join(f"{type(error).__name__}: {error}".split())

    def _create_tables(self, conn: Any) -> None:
        self._run(conn, "CREATE TABLE {}account (id integer PRIMARY KEY, balance integer NOT NULL)")
        self._run(conn, "CREATE TABLE {}transfer (source integer, target integer, amount integer)")
        for account in range(ACCOUNTS):
            self._run(conn, "INSERT INTO {}account VALUES (?, ?)", account, OPENING_BALANCE)

    def _count(self, statement: str) -> int:
        with closing(self.connect()) as conn:
            return int(self._run(conn, statement).fetchone()[0])

    def _run(self, conn: Any, statement: str, *parameters: int) -> Any:
        cursor = conn.cursor()
        cursor.execute(statement.replace("{}", self.prefix).replace("?", self.mark), parameters)
        return cursor


class SqliteBank(Bank):
    """A file in a temporary folder. One transaction writes at a time; the others wait, up to LOCK_SECONDS."""

    name = "sqlite3, a file in a temporary folder"
    error = sqlite3.Error
    folder: Path  # that the file is in

    @contextmanager
    def opened(self) -> Iterator[None]:
        with TemporaryDirectory(prefix="dbpool-demo-") as folder:
            self.folder = Path(folder, "bank")
            self.folder.mkdir()
            self._file = str(self.folder / "bank.db")
            with closing(self.connect()) as conn:
                conn.execute("PRAGMA journal_mode = WAL")  # a property of the file: nobody waits to read
                self._create_tables(conn)
            yield

    def connect(self) -> Any:
        return sqlite3.connect(self._file, timeout=LOCK_SECONDS, isolation_level=None)

    def new_pool(self, connections: int, **options: Any) -> ThreadedConnectionPool[Any]:
        # isolation_level=None: transactions begin where begin() says so, not at the first UPDATE.
        return ThreadedConnectionPool(
            1, connections, self._file, connect=sqlite3, timeout=LOCK_SECONDS, isolation_level=None,
            config={"name": "demo", "on_connect": _sync_at_checkpoints, **options},
        )  # fmt: skip

    def begin(self, conn: Any, order: Order) -> None:
        # One that begins by reading and writes later cannot wait for the lock: two such would wait for ever.
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            if "locked" in str(exc):
                raise Busy from exc
            raise


def _sync_at_checkpoints(conn: Any) -> None:
    conn.execute("PRAGMA synchronous = NORMAL")


class PostgresBank(Bank):
    """A schema with a random name in the database of a DSN."""

    name = "PostgreSQL, a schema of its own"
    mark = "%s"

    def __init__(self, dsn: str) -> None:
        import psycopg2

        self._driver, self._dsn = psycopg2, dsn
        self.error = psycopg2.Error
        self._schema = f"dbpool_demo_{secrets.token_hex(6)}"
        self.prefix = f"{self._schema}."
        self.route: dict[str, Any] = {}  # what a pool's connect is given beside the DSN

    @contextmanager
    def opened(self) -> Iterator[None]:
        with closing(self.connect()) as conn:
            self._run(conn, f"CREATE SCHEMA {self._schema}")
            self._create_tables(conn)
            conn.commit()
        try:
            yield
        finally:
            self._drop()

    def _drop(self) -> None:
        try:
            with closing(self.connect()) as conn:
                self._run(conn, f"DROP SCHEMA {self._schema} CASCADE")
                conn.commit()
        except self.error:
            print(f"The schema {self._schema} could not be dropped: drop it by hand.", file=sys.stderr)
            raise

    def connect(self) -> Any:
        return self._driver.connect(self._dsn)

    def new_pool(self, connections: int, **options: Any) -> ThreadedConnectionPool[Any]:
        config = {"name": "demo", **options}
        return ThreadedConnectionPool(1, connections, self._dsn, connect=self._driver, config=config, **self.route)

    def begin(self, conn: Any, order: Order) -> None:
        # Both accounts, always in the same order: so two transfers never lock each other out.
        lock = "SELECT id FROM {}account WHERE id IN (?, ?) ORDER BY id FOR UPDATE"
        self._run(conn, lock, order.source, order.target)

    def explain(self, error: BaseException) -> str:
        if _is_safe(self._dsn):
            return super().explain(error)
        return f"{type(error).__name__} (its text might quote a password, for the DSN looks malformed)"


def _is_safe(dsn: str) -> bool:
    """Tell whether libpq finds the whole password in *dsn*, and takes no part of it for a host."""
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    try:
        parts = parse_dsn(dsn)
    except ProgrammingError:
        return False
    return not any("@" in value for name, value in parts.items() if name != "password")


def bank_for(dsn: str | None) -> Bank:
    """Return the bank in the database of *dsn*, or in a file where there is none."""
    return PostgresBank(dsn) if dsn else SqliteBank()
