"""Subject: one pool module under observation, and the words in which its outcomes are compared."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable

from drivers.conftest import name_socket_for_kingbase
from servers import import_or_skip
from unit.threads import eventually

from dbpool import PoolConfig

if TYPE_CHECKING:
    import pytest

# Name -> its module, its driver, and the config that its pools are given, if any.
REFERENCE = "psycopg2.pool"
SUBJECTS: dict[str, tuple[str, str, PoolConfig | None]] = {
    REFERENCE: ("psycopg2.pool", "psycopg2", None),
    "ksycopg2.pool": ("ksycopg2.pool", "ksycopg2", None),
    "dbpool.psycopg2": ("dbpool.psycopg2", "psycopg2", None),
    "dbpool.ksycopg2": ("dbpool.ksycopg2", "ksycopg2", None),
    "dbpool.psycopg2 like psycopg2": ("dbpool.psycopg2", "psycopg2", PoolConfig.like_psycopg2()),
    "dbpool.ksycopg2 like psycopg2": ("dbpool.ksycopg2", "ksycopg2", PoolConfig.like_psycopg2()),
}
IDLE = 0  # transaction status


class Subject:
    """A pool module, in which *kind* names the class to be tried. Every connection that its driver opens is kept."""

    def __init__(self, name: str, kind: str, dsn: str, patch: pytest.MonkeyPatch) -> None:
        module, driver, config = SUBJECTS[name]
        self.name, self.kind, self.dsn, self.patch = name, kind, dsn, patch
        self.driver: Any = import_or_skip(driver)
        self.module: Any = import_module(module)
        if driver == "ksycopg2":
            name_socket_for_kingbase(dsn)
        self._config = {} if config is None else {"config": config}
        # For a case that waits until the time-out.
        self.hasty: dict[str, Any] = {"config": {"timeout": 0.3}} if module.startswith("dbpool") and not config else {}
        self._pools: list[Any] = []
        self._names: dict[int, str] = {}
        self.opened: list[Any] = []  # also keeps them alive, so that no id is given twice
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []  # the arguments of each connect
        self.refuse_from = 1000  # the number of the first connect that fails
        self.refusal = "FATAL:  password authentication failed"
        self._really_connect = self.driver.connect
        patch.setattr(self.driver, "connect", self._connect)

    def _connect(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        if len(self.calls) >= self.refuse_from:
            eventually(lambda: len(self.opened) >= self.refuse_from - 1)  # those before it, if any
            raise self.driver.OperationalError(self.refusal)
        conn = self._really_connect(*args, **kwargs)
        self.opened.append(conn)
        return conn

    @property
    def pool_class(self) -> Any:
        return getattr(self.module, self.kind)

    def pool(self, minconn: Any = 0, maxconn: Any = 2, *args: Any, of: Any = None, **kwargs: Any) -> Any:
        """Return a new pool, of a subclass perhaps, over the DSN if nothing else is given."""
        kind = of or self.pool_class
        made = kind(minconn, maxconn, *(args or (self.dsn,)), **{**self._config, **kwargs})
        self._pools.append(made)
        return made

    def close(self) -> None:
        """Close all that was opened."""
        for pool in self._pools:
            if not pool.closed:
                pool.closeall()
        for conn in self.opened:
            conn.close()

    # ---- in what words outcomes are told ----------------------------------------------------------------------------

    def told(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what *call* returns or raises, as it can be compared.

        Of the texts of the pool's errors only psycopg2's own words: ours begin with them and go on to say why, which
        is an entry of its own. Of the driver's errors only the class: the texts are the driver's.
        """
        try:
            return self.named(call(*args, **kwargs))
        except self.module.PoolError as error:
            return "PoolError", str(error).partition(" (")[0].partition(":")[0]
        except self.driver.Error:
            return "the driver's Error"
        except KeyError:
            return "KeyError", "of a key"
        except Exception as error:
            return type(error).__name__, str(error)

    def named(self, thing: Any) -> Any:
        """Return the name of a connection, in the order in which they are first spoken of; all else as it is."""
        if any(conn is thing for conn in self.opened):
            return self._names.setdefault(id(thing), f"conn {len(self._names) + 1}")
        if isinstance(thing, (list, tuple)):
            return [self.named(each) for each in thing]
        return thing

    def idle(self, pool: Any) -> list[str]:
        return [self.named(conn) for conn in pool._pool]

    def state(self, conn: Any) -> str:
        if conn.closed:
            return "closed"
        return "idle" if conn.get_transaction_status() == IDLE else "in a transaction"

    def states(self) -> list[str]:
        return sorted(self.state(conn) for conn in self.opened)

    def terminate(self, conn: Any) -> None:
        """Have the server end the session of *conn*; return once it has."""
        pid = conn.get_backend_pid()
        with closing(self._really_connect(self.dsn)) as other, other.cursor() as cursor:
            other.autocommit = True

            def is_gone() -> bool:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", (pid,))
                return cursor.fetchone() is None

            eventually(is_gone)


def execute(conn: Any, statement: str) -> Any:
    """Execute *statement*; return the first row, if there are rows."""
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() if cursor.description else None
