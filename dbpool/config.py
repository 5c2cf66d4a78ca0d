"""PoolConfig: every option of a pool in one frozen value, right or refused at birth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Union

from dbpool.frozen import Frozen
from dbpool.listener import PoolListener

LEVELS = ("none", "rollback", "commit", "clean", "session")
TIMEOUT_MAX = 4_000_000.0  # seconds: what a lock can wait for on every platform


class Default:
    """The type of DEFAULT, "as configured"; it shows well in signatures."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()
Timeout = Union[float, None, Default]
Reset = Union[str, Callable[[Any], Any]]


class PoolConfig(Frozen):
    """The options of a pool; all have defaults, and all are given by name.

    name            shown in logs and errors; default pool-1, pool-2, ...
    timeout         seconds getconn waits; None: for ever; 0: never for a return (psycopg2's rule)
    max_waiting     how many may wait; one more is refused at once; None: no limit
    start           "eager": minconn opened by the constructor; "lazy": on demand; "background": by threads, meanwhile
    idle_order      "lifo": the connection used last is used next; "fifo": the one unused for longest
    max_overflow    connections above maxconn, closed when they come back; None: no limit
    idle_timeout    None: idle connections stay; 0: those above minconn close on return (psycopg2's rule)
    max_uses        a connection is closed after so many leases; None: no limit
    reset           "none", "rollback", "commit", "clean" (rollback, and the driver's attributes as they were),
                    "session" (clean, and the server forgets the session), or a callable(conn) run after a rollback
    connect_timeout seconds that opening one connection may take, all attempts together; None: no limit
    connect_attempts how often a failed connect is tried in all, with growing pauses
    max_connecting  how many connections are opened at a time; None: no limit
    on_connect      callable(conn), once for each new connection; what it leaves open is committed
    listener        a PoolListener, told of what happens
    detect_deadlock True: raise PoolDeadlock at once if every thread of the process waits for this pool
    background      False: no thread is ever started; connections are opened by the caller

    Raises TypeError or ValueError naming the option that is wrong.
    """

    __slots__ = (
        "background", "connect_attempts", "connect_timeout", "detect_deadlock", "idle_order", "idle_timeout",
        "listener", "max_connecting", "max_overflow", "max_uses", "max_waiting", "name", "on_connect", "reset", "start",
        "timeout",
    )  # fmt: skip

    name: str | None
    timeout: float | None
    max_waiting: int | None
    start: str
    idle_order: str
    max_overflow: int | None
    idle_timeout: float | None
    max_uses: int | None
    reset: Reset
    connect_timeout: float | None
    connect_attempts: int
    max_connecting: int | None
    on_connect: Callable[[Any], Any] | None
    listener: PoolListener | None
    detect_deadlock: bool
    background: bool

    def __init__(
        self,
        *,
        name: str | None = None,
        timeout: float | None = 10.0,
        max_waiting: int | None = None,
        start: str = "eager",
        idle_order: str = "lifo",
        max_overflow: int | None = 0,
        idle_timeout: float | None = None,
        max_uses: int | None = None,
        reset: Reset = "clean",
        connect_timeout: float | None = 10.0,
        connect_attempts: int = 1,
        max_connecting: int | None = None,
        on_connect: Callable[[Any], Any] | None = None,
        listener: PoolListener | None = None,
        detect_deadlock: bool = True,
        background: bool = True,
    ) -> None:
        given = locals()
        super().__init__(**{option: given[option] for option in self.__slots__})
        self._check()

    def _check(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name must be text, not {self.name!r}")
        seconds("timeout", self.timeout)
        count("max_waiting", self.max_waiting, 0, optional=True)
        _choice("start", self.start, ("eager", "lazy", "background"))
        _choice("idle_order", self.idle_order, ("lifo", "fifo"))
        count("max_overflow", self.max_overflow, 0, optional=True)
        if seconds("idle_timeout", self.idle_timeout):
            raise ValueError(f"idle_timeout must be None or 0 in this version, not {self.idle_timeout!r}")
        count("max_uses", self.max_uses, 1, optional=True)
        if not callable(self.reset):
            _choice("reset", self.reset, LEVELS)
        if seconds("connect_timeout", self.connect_timeout) == 0:
            raise ValueError("connect_timeout must be above 0, or None")
        count("connect_attempts", self.connect_attempts, 1)
        count("max_connecting", self.max_connecting, 1, optional=True)
        if self.on_connect is not None and not callable(self.on_connect):
            raise TypeError(f"on_connect must be callable, not {self.on_connect!r}")
        if self.listener is not None and not isinstance(self.listener, PoolListener):
            raise TypeError(f"listener must be a PoolListener, not {self.listener!r}")
        for switch in ("detect_deadlock", "background"):
            if not isinstance(getattr(self, switch), bool):
                raise TypeError(f"{switch} must be True or False, not {getattr(self, switch)!r}")

    @classmethod
    def of(cls, config: PoolConfig | Mapping[str, Any] | None) -> PoolConfig:
        """Return *config* as a PoolConfig: one already, a mapping of options, or None for the defaults."""
        return config if isinstance(config, PoolConfig) else cls()._but(cls.changes(config))

    @staticmethod
    def changes(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return a mapping of options as it is; None changes nothing."""
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"config must be a PoolConfig or a mapping, not {_shown(config)}")
        return config or {}

    @classmethod
    def like_psycopg2(cls, **options: Any) -> PoolConfig:
        """Return the options that behave as psycopg2.pool: never wait, keep minconn idle, roll back on return."""
        return cls(timeout=0, idle_timeout=0, reset="rollback")._but(options)

    def replace(self, **options: Any) -> PoolConfig:
        """Return the same but for *options*."""
        return self._but(options)

    def _but(self, options: Mapping[str, Any]) -> PoolConfig:
        unknown = sorted(str(option) for option in options if option not in self.__slots__)
        if unknown:
            raise TypeError(f"unknown option: {', '.join(unknown)}; known are {', '.join(self.__slots__)}")
        return type(self)(**{**self._asdict(), **options})


def seconds(name: str, value: Any) -> float | None:
    """Return *value* if it can be a time-out in seconds (None: without end); else say what is wrong with it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {_shown(value)}")
    if not 0 <= value <= TIMEOUT_MAX:  # so not NaN either
        raise ValueError(f"{name} must be between 0 and {TIMEOUT_MAX:.0f} seconds, or None, not {_shown(value)}")
    return float(value)


def count(name: str, value: Any, least: int, *, optional: bool = False) -> None:
    """Insist that *value* is a whole number of at least *least*, or None if it is *optional*."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number{' or None' if optional else ''}, not {_shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {_shown(value)}")


def sizes(minconn: Any, maxconn: Any) -> None:
    """Insist on 0 <= minconn <= maxconn, and maxconn >= 1."""
    count("minconn", minconn, 0)
    count("maxconn", maxconn, 1)
    if minconn > maxconn:
        raise ValueError(f"minconn must not be above maxconn: {minconn} > {maxconn}")


def _shown(value: Any) -> str:
    """Return *value* as it may stand in a message: a text can be a misplaced DSN with a password in it."""
    return repr(value) if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise ValueError(f"{name} must be one of {words}, not {_shown(value)}")
