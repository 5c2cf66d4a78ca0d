"""What makes a pool a twin of psycopg2.pool's: its arguments, its private names, and how it takes their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from dbpool.config import PoolConfig, sizes
from dbpool.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("AbstractConnectionPool", "SimpleConnectionPool", "ThreadedConnectionPool", "PersistentConnectionPool")


class Twin(Shell[Any]):
    """Mixed in before one of the pools: takes and shows what psycopg2's pool of that name does.

    *minconn* and *maxconn* may be anything that int() takes; they and ``closed`` can be set. There is no *connect*: the
    driver is given, and all arguments but *config* are its own. What psycopg2's pools do underneath (``_getconn``,
    ``_putconn``, ``_closeall``, ``_connect``) can be called, and ``_connect`` overridden.
    """

    driver: ClassVar[Any]  # the module by which it connects, looked up at each call
    defaults: ClassVar[PoolConfig] = PoolConfig(reset="rollback")

    def __init__(
        self, minconn: Any, maxconn: Any, *args: Any,
        config: PoolConfig | Mapping[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if not isinstance(config, PoolConfig):
            config = self.defaults.replace(**PoolConfig.changes(config))
        args, kwargs = self._translated(args, kwargs)
        made: Any = super()  # the pool that it is mixed into
        made.__init__(int(minconn), int(maxconn), *args, connect=self.driver, config=config, **kwargs)

    @staticmethod
    def _translated(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the driver's arguments in the form that it understands."""
        return args, kwargs

    def _getkey(self) -> object:
        return object()

    def _getconn(self, key: Any = None) -> Any:
        pool: Any = super()
        return pool.getconn() if key is None else pool.getconn(key)

    def _putconn(self, conn: Any = None, key: Any = None, close: bool = False) -> None:
        pool: Any = super()
        pool.putconn(conn, close=close) if key is None else pool.putconn(conn, key, close)

    def _closeall(self) -> None:
        pool: Any = super()
        pool.closeall()

    @property
    def minconn(self) -> int:
        return self._state.minconn

    @minconn.setter
    def minconn(self, value: Any) -> None:
        self._limit_to(int(value), self._state.maxconn)

    @property
    def maxconn(self) -> int:
        return self._state.maxconn

    @maxconn.setter
    def maxconn(self, value: Any) -> None:
        self._limit_to(self._state.minconn, int(value))

    def _limit_to(self, minconn: int, maxconn: int) -> None:
        sizes(minconn, maxconn)
        with self._lock:
            self._state.set_limits(minconn, maxconn)
        self._settle()

    @property
    def closed(self) -> bool:
        return self._state.closed

    @closed.setter
    def closed(self, value: Any) -> None:
        with self._lock:
            self._state.gate = True
            self._state.closed = bool(value)
        self._settle()


class Dispatching:
    """What psycopg2's Threaded pool does: a subclass that overrides ``_getconn`` changes ``getconn``, and so on."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for public in ("getconn", "putconn", "closeall"):
            if f"_{public}" in vars(cls) and public not in vars(cls):
                setattr(cls, public, vars(cls)[f"_{public}"])


class Replacement:
    """The classes of a driver's pool module, replaced by twins; its PoolError stays, because ours derive from it."""

    def __init__(self, base: type[Twin], twins: Mapping[str, Any]) -> None:
        self._base = base
        self._twins = {name: twins[name] for name in NAMES}
        self._before: dict[str, Any] | None = None

    def install(self, module: Any, config: PoolConfig | Mapping[str, Any] | None) -> None:
        """Put the twins into *module*; *config* is what pools made from now on have, if they are given none."""
        defaults = config if isinstance(config, PoolConfig) else Twin.defaults.replace(**PoolConfig.changes(config))
        self._base.defaults = defaults
        if self._before is None:
            self._before = {name: vars(module).get(name) for name in NAMES}
            vars(module).update(self._twins)

    def uninstall(self, module: Any) -> None:
        """Put back what was there."""
        self._base.defaults = Twin.defaults
        for name, before in (self._before or {}).items():
            if before is None:
                delattr(module, name)
            else:
                setattr(module, name, before)
        self._before = None
