"""PoolConfig: every option of a pool in one frozen value, right or refused at birth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, Union

from dbpool.frozen import Frozen
from dbpool.limiter import Limiter
from dbpool.listener import PoolListener

LEVELS = ("none", "rollback", "commit", "clean", "session")
SHORTEST_PERIOD, LONGEST_PERIOD = 0.02, 30.0  # seconds between two sweeps
TIMEOUT_MAX = 4_000_000.0  # seconds: what a lock can wait for on every platform


class Default:
    """The type of DEFAULT, "as configured"; it shows well in signatures."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()
Timeout = Union[float, None, Default]
Reset = Union[str, Callable[[Any], Any]]


class Sourced(Frozen):
    """Remembers where its values come from, as no part of what it is: equal values may have other sources."""

    __slots__ = ("_sources",)

    _sources: Mapping[str, str]

    def _told(self, sources: Mapping[str, str]) -> None:
        object.__setattr__(self, "_sources", sources)


class PoolConfig(Sourced):
    """The options of a pool; all have defaults, and all are given by name.

    name            shown in logs and errors; default pool-1, pool-2, ...
    timeout         seconds getconn waits; None: for ever; 0: never for a return (psycopg2's rule)
    max_waiting     how many may wait; one more is refused at once; None: no limit
    start           "eager": minconn opened by the constructor; "lazy": on demand; "background": by threads, meanwhile
    idle_order      "lifo": the connection used last is used next; "fifo": the one unused for longest
    max_overflow    connections above maxconn, closed when they come back; None: no limit
    idle_timeout    seconds after which an idle connection above minconn is closed; None: never; 0: on return
                    (psycopg2's rule). Idle since it was last handed out: no clock is read when one comes back
    max_lifetime    seconds after which a connection is replaced, when it is not in use; None: never
    lifetime_jitter up to this part of max_lifetime less, at random, so that not all end together: 0 to 1
    max_uses        a connection is closed after so many leases; None: no limit
    check_after     seconds unused after which getconn asks the system whether the connection was closed; None: never
    ping_after      seconds unused after which getconn asks the server, with one round trip; 0: always; None: never
    ping_interval   seconds unused after which an idle connection is pinged in the background, to keep it alive
    ping_on_return, ping_on_connect   True: also when it comes back; when it is new
    check_timeout   seconds that each ping, rollback, reset and close may take; None: no limit
    role            "read-write" or "read-only": what the server must be, asked at connect and with each ping
    reset           "none", "rollback", "commit", "clean" (rollback, and the driver's attributes as they were),
                    "session" (clean, and the server forgets the session), or a callable(conn) run after a rollback
    connect_timeout seconds that opening one connection may take, all attempts together; None: no limit
    connect_attempts how often a failed connect is tried in all, with growing pauses
    max_connecting  how many connections are opened at a time; None: no limit
    on_connect      callable(conn), once for each new connection; what it leaves open is committed
    listener        a PoolListener, told of what happens
    leak_threshold  seconds; a lease that is held longer is logged, once; None: never
    trace           True: record where in the program each getconn was called: for leaks, errors, holders()
    strict          True: only the thread that got a connection may put it
    detect_deadlock True: raise PoolDeadlock at once if every thread of the process waits for this pool
    limiter         a Limiter shared by several pools: one limit over all of them
    background      False: no thread is ever started; connections are opened by the caller

    Raises TypeError or ValueError naming the option that is wrong.
    """

    __slots__ = (
        "background", "check_after", "check_timeout", "connect_attempts", "connect_timeout", "detect_deadlock",
        "idle_order", "idle_timeout", "leak_threshold", "lifetime_jitter", "limiter", "listener", "max_connecting",
        "max_lifetime", "max_overflow", "max_uses", "max_waiting", "name", "on_connect", "ping_after", "ping_interval",
        "ping_on_connect", "ping_on_return", "reset", "role", "start", "strict", "timeout", "trace",
    )  # fmt: skip

    name: str | None
    timeout: float | None
    max_waiting: int | None
    start: str
    idle_order: str
    max_overflow: int | None
    idle_timeout: float | None
    max_lifetime: float | None
    lifetime_jitter: float
    max_uses: int | None
    check_after: float | None
    ping_after: float | None
    ping_interval: float | None
    ping_on_return: bool
    ping_on_connect: bool
    check_timeout: float | None
    role: str | None
    reset: Reset
    connect_timeout: float | None
    connect_attempts: int
    max_connecting: int | None
    on_connect: Callable[[Any], Any] | None
    listener: PoolListener | None
    leak_threshold: float | None
    trace: bool
    strict: bool
    limiter: Limiter | None
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
        idle_timeout: float | None = 600.0,
        max_lifetime: float | None = 3600.0,
        lifetime_jitter: float = 0.1,
        max_uses: int | None = None,
        check_after: float | None = 0.05,
        ping_after: float | None = 60.0,
        ping_interval: float | None = None,
        ping_on_return: bool = False,
        ping_on_connect: bool = False,
        check_timeout: float | None = 5.0,
        role: str | None = None,
        reset: Reset = "clean",
        connect_timeout: float | None = 10.0,
        connect_attempts: int = 1,
        max_connecting: int | None = None,
        on_connect: Callable[[Any], Any] | None = None,
        listener: PoolListener | None = None,
        leak_threshold: float | None = None,
        trace: bool = False,
        strict: bool = False,
        limiter: Limiter | None = None,
        detect_deadlock: bool = True,
        background: bool = True,
    ) -> None:
        given = locals()
        super().__init__(**{option: given[option] for option in self.__slots__})
        self._told({})
        self._check()

    def _check(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name must be text, not {self.name!r}")
        seconds("timeout", self.timeout)
        count("max_waiting", self.max_waiting, 0, optional=True)
        _choice("start", self.start, ("eager", "lazy", "background"))
        _choice("idle_order", self.idle_order, ("lifo", "fifo"))
        count("max_overflow", self.max_overflow, 0, optional=True)
        for option in ("idle_timeout", "check_after", "ping_after"):
            seconds(option, getattr(self, option))
        for option in ("max_lifetime", "ping_interval", "check_timeout", "leak_threshold", "connect_timeout"):
            if seconds(option, getattr(self, option)) == 0:
                raise ValueError(f"{option} must be above 0, or None")
        _part("lifetime_jitter", self.lifetime_jitter)
        count("max_uses", self.max_uses, 1, optional=True)
        if not callable(self.reset):
            _choice("reset", self.reset, LEVELS)
        count("connect_attempts", self.connect_attempts, 1)
        count("max_connecting", self.max_connecting, 1, optional=True)
        if self.on_connect is not None and not callable(self.on_connect):
            raise TypeError(f"on_connect must be callable, not {self.on_connect!r}")
        if self.listener is not None and not isinstance(self.listener, PoolListener):
            raise TypeError(f"listener must be a PoolListener, not {self.listener!r}")
        if self.limiter is not None and not isinstance(self.limiter, Limiter):
            raise TypeError(f"limiter must be a Limiter, not {_shown(self.limiter)}")
        if self.role is not None:
            _choice("role", self.role, ("read-write", "read-only"))
        for switch in ("ping_on_return", "ping_on_connect", "trace", "strict", "detect_deadlock", "background"):
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
    def _by_default(cls, **options: Any) -> PoolConfig:
        """Return the options of a pool whose own defaults are these."""
        made = cls(**options)
        made._told(dict.fromkeys(options, "default"))
        return made

    @classmethod
    def like_psycopg2(cls, **options: Any) -> PoolConfig:
        """Return the options that behave as psycopg2.pool: never wait, keep minconn idle, roll back on return."""
        like = cls(timeout=0, idle_timeout=0, max_lifetime=None, reset="rollback")
        like._told(dict.fromkeys(("timeout", "idle_timeout", "max_lifetime", "reset"), "like_psycopg2"))
        return like._but(options)

    def sweep_period(self) -> float:
        """Return the seconds between two sweeps: short enough for each limit to be kept within 5 percent."""
        limits = (self.idle_timeout, self.max_lifetime, self.ping_interval, self.leak_threshold)
        return min(LONGEST_PERIOD, max(SHORTEST_PERIOD, min((each for each in limits if each), default=600.0) / 20))

    @classmethod
    def from_env(cls, prefix: str = "DBPOOL_", **options: Any) -> PoolConfig:
        """Return the options that the environment gives, DBPOOL_TIMEOUT=5 for one, over *options*.

        "none" is None; true and false, yes and no, on and off, 1 and 0 are switches. Variables that name no option are
        left alone. Raises ValueError naming the variable whose value is wrong.
        """
        found = {option: os.environ.get(prefix + option.upper()) for option in cls.__slots__}
        sources = {}
        for option, text in found.items():
            if text is not None:
                options[option] = _read(prefix + option.upper(), option, text)
                sources[option] = f"environment {prefix}{option.upper()}"
        made = cls()._but(options)
        made._told({**made._sources, **sources})
        return made

    def source(self, option: str) -> str:
        """Return where the value of *option* comes from: "default", "given", "environment VARIABLE", "like_psycopg2".

        One that is given, but is as by default, counts as the default's.
        """
        if option not in self.__slots__:
            raise TypeError(f"unknown option: {option}; known are {', '.join(self.__slots__)}")
        known = self._sources.get(option)
        if known is not None:
            return known
        default = (type(self).__init__.__kwdefaults__ or {}).get(option)
        return "default" if getattr(self, option) == default else "given"

    def replace(self, **options: Any) -> PoolConfig:
        """Return the same but for *options*."""
        return self._but(options)

    def _but(self, options: Mapping[str, Any]) -> PoolConfig:
        unknown = sorted(str(option) for option in options if option not in self.__slots__)
        if unknown:
            raise TypeError(f"unknown option: {', '.join(unknown)}; known are {', '.join(self.__slots__)}")
        made = type(self)(**{**self._asdict(), **options})
        made._told({option: source for option, source in self._sources.items() if option not in options})
        return made


OBJECTS = ("limiter", "listener", "on_connect")
SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _read(variable: str, option: str, text: str) -> Any:
    """Return the value that *text* means for *option*; right or wrong is for PoolConfig to say."""
    kind = PoolConfig.__annotations__[option]
    if option in OBJECTS:
        raise ValueError(f"{variable}: {option} is an object of the program's, and cannot be given as a text")
    if "None" in kind and text.lower() in ("none", ""):
        return None
    try:
        if kind == "bool":
            return SWITCHES[text.lower()]
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
    except (KeyError, ValueError):
        raise ValueError(f"{variable} has no value that {option} can have") from None
    return text


def seconds(name: str, value: Any) -> float | None:
    """Return *value* if it can be a time-out in seconds (None: without end); else say what is wrong with it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {_shown(value)}")
    if not 0 <= value <= TIMEOUT_MAX:  # so not NaN either
        raise ValueError(f"{name} must be between 0 and {TIMEOUT_MAX:.0f} seconds, or None, not {_shown(value)}")
    return float(value)


def _part(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {_shown(value)}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, not {_shown(value)}")


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
