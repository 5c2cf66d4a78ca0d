"""Opener: makes the connections of one pool, and learns from them which driver it is that the pool serves."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from os import urandom
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from dbpool import fork, logs
from dbpool.bounded import Bounds, Overdue, cut
from dbpool.connectors.base import Connector, by_module, find
from dbpool.entry import FOR_EVER
from dbpool.errors import Bound, bind
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.masking import mask_error

if TYPE_CHECKING:
    from dbpool.config import PoolConfig

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between the attempts of one connect
ROLES = ("read-only", "read-write")
LONGEST_REFUSAL = 0.35  # seconds: so soon a server that is back is found


class Opener:
    """How the connections of one pool are made: connect, on_connect, attempts; and by whom they are known.

    *connect* is a callable, a DB-API module, a Connector, or None for psycopg2, else ksycopg2. *error* is what the
    pool's errors derive from, if not from the driver's Error.
    """

    def __init__(
        self, connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], config: PoolConfig,
        error: type[BaseException] | None = None, *, threads: bool = True, literal: bool = False,
    ) -> None:  # fmt: skip
        self._source = _resolve(connect)
        self._config = config
        self._bounds = Bounds(config.check_timeout, config.background, threads)
        self.misfit: str | None = None  # what of the options does not suit the server
        self._asked: Any = None  # the type of connection that was asked for its driver's Error last
        self._compared = False  # the server's limit for idle sessions with ours
        self.args = HiddenArgs(args)
        self.kwargs = HiddenKwargs(kwargs)
        self.connector: Connector | None = self._source if isinstance(self._source, Connector) else None
        self._driver = None if self.connector else self._by_module(self._source)
        if self._driver is not None:
            self._driver.literal = literal
        known = self.connector or self._driver
        error = error or _module_error(self._source) or (known.error if known else None)
        self.errors: Bound = bind(error)
        if known is not None:
            self._check_level(known)

    # Where connectors are looked up.
    _by_module = staticmethod(by_module)
    _find = staticmethod(find)

    def dial(self) -> Any:
        """Call the driver's connect. It is looked up at each call, so that a patched one is found."""
        args, kwargs = self._arguments()
        connect = self._source.connect if isinstance(self._source, (ModuleType, Connector)) else self._source
        try:
            return connect(*args, **kwargs)
        except Exception as exc:
            mask_error(exc, args, kwargs)
            raise

    def _arguments(self) -> tuple[HiddenArgs, HiddenKwargs]:
        if not self._has_dsn():
            return self._completed(self.args)
        (dsn,) = self.args  # a callable in its place gives it anew each time: passwords may change
        return self._completed(HiddenArgs((dsn() if callable(dsn) else dsn,)))

    def _has_dsn(self) -> bool:
        return self.errors.driver is not None and len(self.args) == 1

    def _completed(self, args: tuple[Any, ...]) -> tuple[HiddenArgs, HiddenKwargs]:
        """Return the arguments for connect: a mapping in the place of the DSN is keywords."""
        kwargs: dict[str, Any] = self.kwargs
        first = next(iter(args), None)
        if self._has_dsn() and isinstance(first, Mapping):
            args, kwargs = (), {**first, **kwargs}
        if self._driver is not None:
            kwargs = self._driver.adapt(args, kwargs, self._config.connect_timeout)
        return HiddenArgs(args), HiddenKwargs(kwargs)

    def open(self, dial: Callable[[], Any], wanted: Callable[[], bool]) -> tuple[Any, Any]:
        """Return a new connection, made ready by on_connect, and its attributes as they are then.

        A failed attempt is repeated ``connect_attempts`` times in all, after growing pauses, while it is *wanted*.
        Raises what the last attempt raised; nothing stays open.
        """
        pause = FIRST_PAUSE
        for attempt in range(1, self._config.connect_attempts + 1):
            try:
                return self._open_once(dial)
            except Exception as exc:
                self._learn_error(exc)
                if attempt == self._config.connect_attempts or not wanted():
                    raise
                logs.info("connect attempt %d failed (%s), trying again", attempt, type(exc).__name__)
            time.sleep(pause * (0.5 + 0.5 * _random()))
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("connect_attempts is at least 1")

    def _open_once(self, dial: Callable[[], Any]) -> tuple[Any, Any]:
        conn = dial()
        if conn is None:
            raise TypeError("connect returned None, not a connection")
        try:
            connector = self._learn(conn)
            if self._config.on_connect is not None:
                self._config.on_connect(conn)
                if connector.dirty(conn):
                    connector.commit(conn)
            self._compare_limits(conn, connector)
            if connector.unfit(conn):
                raise self._unusable(conn)
            if self._config.ping_on_connect or self._config.role is not None:
                self._ping_first(conn)
            look = connector.marks_of()
            return conn, None if look is None else look(conn)
        except BaseException:
            self.close(conn)
            raise

    def _unusable(self, conn: Any) -> Any:
        error: Any = self.errors.PoolError("connect returned a connection that cannot be used: closed, or busy")
        error.transient = self.is_lost(conn)  # the server's doing: it may be about to restart
        return error

    def close(self, conn: Any) -> bool:
        """Close *conn*; a connection that cannot be closed is let go. False if it had to be cut off."""
        connector = self.connector or self._find(conn)
        busy = False
        try:
            busy = connector.is_busy(conn)
            if busy:  # another thread uses it, and its driver would have us wait for that thread's statement
                cut(connector.fileno(conn))
            self._bounds.run(connector, conn, connector.close, conn)
        except Overdue:
            return False
        except Exception as exc:
            logs.debug("closing a connection raised %s", type(exc).__name__)
        return not busy

    def bounded(self, call: Callable[..., Any], conn: Any, *args: Any) -> Any:
        """Return what ``call(conn, *args)`` does; raise Overdue if that takes longer than check_timeout."""
        assert self.connector is not None
        return self._bounds.run(self.connector, conn, call, conn, *args)

    def ping(self, conn: Any, seconds: float | None = None, writable: bool = False) -> None:
        """Ask the server for an answer, and for its role if there is one to have; raise if there is none, or another.

        Takes at most *seconds*, and at most check_timeout. *writable*: it must not be read-only, whatever the role.
        """
        connector, role = self.connector, self._config.role
        assert connector is not None
        if role is None and not writable:
            self._bounds.run(connector, conn, connector.ping, conn, seconds=seconds)
        else:
            wanted = role or "read-write"
            found = self._bounds.run(connector, conn, connector.is_writable, conn, seconds=seconds)
            if found is not None and found != (wanted == "read-write"):
                error: Any = self.errors.PoolError(f"the server is {ROLES[found]}, and role={wanted!r}")
                error.transient = True  # it may be promoted
                raise error
        if connector.unfit(conn):
            raise self.errors.PoolError("the connection is closed, or in a transaction, after it was pinged")

    def _ping_first(self, conn: Any) -> None:
        try:
            self.ping(conn)
        except Overdue as exc:
            text = f"connection pool exhausted: a new connection does not answer: {exc}"
            raise self.errors.PoolTimeout(text) from exc

    def _compare_limits(self, conn: Any, connector: Connector) -> None:
        """Warn, once, if the server ends idle sessions sooner than this pool closes or pings them."""
        limits = (self._config.idle_timeout, self._config.ping_interval)
        ours = min(FOR_EVER if limit is None else limit for limit in limits)
        if self._compared or ours == 0 or type(connector).idle_limit is Connector.idle_limit:
            return
        self._compared = True
        theirs = None
        with suppress(Exception):  # a server of another kind; and if it does not answer, the connection is unfit
            theirs = self._bounds.run(connector, conn, connector.idle_limit, conn)
        if theirs is not None and theirs < ours:
            self.misfit = (
                f"the server ends sessions that are idle for {theirs:g} s ({connector.idle_setting}): set "
                "ping_interval, or idle_timeout, to less"
            )
            logs.warning("%s: %s", self._config.name or "a pool", self.misfit, event="misfit")

    def refusal(self, error: BaseException) -> str | None:
        """Say what a failed connect means: a "transient" or "permanent" refusal of the server's, or None: neither."""
        if getattr(error, "transient", False):
            return "transient"
        driver = self._driver or self.connector
        return None if driver is None else driver.refusal(error)

    def is_lost(self, conn: Any) -> bool:
        """True if *conn* was lost, rather than closed by its user."""
        return self.connector is not None and self.connector.is_lost(conn)

    def socket_of(self, conn: Any) -> fork.Socket:
        """Return how a forked child knows the connection's descriptor."""
        return None if self.connector is None else fork.socket_of(self.connector.fileno(conn))

    def backend_pid(self, conn: Any) -> int | None:
        """Return the number of the server's process that serves *conn*; None if the driver does not tell."""
        with suppress(Exception):
            found = None if self.connector is None else self.connector.backend_pid(conn)
            return found if isinstance(found, int) and found > 0 else None
        return None

    def _learn(self, conn: Any) -> Connector:
        if self.connector is None:
            connector = self._find(conn)
            self._check_level(connector)
            self.connector = connector
        if self.errors.driver is None and type(conn) is not self._asked:
            self._asked = type(conn)
            error = self.connector.error or _error_of(type(conn))
            if error is not None:
                self.errors = bind(error)
        return self.connector

    def _learn_error(self, exc: BaseException) -> None:
        if self.errors.driver is None:
            error = _error_of(type(exc))
            if error is not None:
                self.errors = bind(error)

    def _check_level(self, connector: Connector) -> None:
        level, role = self._config.reset, self._config.role
        if role is not None and type(connector).is_writable is Connector.is_writable:
            raise ValueError(f"role={role!r}: this kind of connection cannot be asked for its server's role")
        if isinstance(level, str) and level not in connector.levels:
            raise ValueError(
                f"reset={level!r} is not known for this kind of connection; {sorted(connector.levels)} are"
            )


class Backoff:
    """How long to leave a server alone that refuses: longer and longer, and never all clients at the same time."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def next(self) -> float:
        """Return the seconds until the next attempt."""
        pause = self._pause
        self._pause = min(2 * pause, LONGEST_REFUSAL)
        return pause * (0.5 + 0.5 * _random())

    def end(self) -> None:
        """It has let us in."""
        self._pause = FIRST_PAUSE


def jittered(seconds: float, jitter: float) -> float:
    """Return *seconds*, or up to the part *jitter* of them less, so that not all end at the same time."""
    return seconds * (1.0 - jitter * _random()) if jitter else seconds


def _random() -> float:
    # By the system each time, for forked processes must not draw the same numbers. Not by the module random: that takes
    # a millisecond to load, and cannot be if no descriptor is left; nor by a new generator: to seed it takes 40 us.
    return (int.from_bytes(urandom(7), "big") >> 3) / (1 << 53)


def _resolve(connect: Any) -> Any:
    if connect is None:
        return _default_driver()
    if isinstance(connect, ModuleType):
        if not callable(getattr(connect, "connect", None)):
            raise TypeError(f"connect: the module {connect.__name__} has no connect()")
        return connect
    if isinstance(connect, Connector) or (callable(connect) and not _is_connector_class(connect)):
        return connect
    raise TypeError(f"connect must be a callable, a DB-API module or a Connector, not {type(connect).__name__}")


def _is_connector_class(connect: Any) -> bool:
    return isinstance(connect, type) and issubclass(connect, Connector)


def _default_driver() -> ModuleType:
    for name in ("psycopg2", "ksycopg2"):
        try:
            return import_module(name)
        except ModuleNotFoundError as exc:
            if exc.name != name:
                raise
    raise ImportError(
        "connect was not given, and neither psycopg2 nor ksycopg2 is installed: pass connect=, or from the checkout "
        "run `pip install .[psycopg2]`"
    )


def _module_error(source: Any) -> type[BaseException] | None:
    """The Error of a DB-API module, given the module or a function of it."""
    if isinstance(source, ModuleType):
        return _error_in(source)
    return None if isinstance(source, Connector) else _error_of(source)


def _error_of(thing: Any) -> type[BaseException] | None:
    """The Error of the DB-API module that a type or a function comes from, through the type's MRO."""
    for base in getattr(thing, "__mro__", (thing,)):
        name = str(getattr(base, "__module__", ""))
        while name:  # mysql.connector.connection, mysql.connector, mysql
            error = _error_in(sys.modules.get(name)) or _error_in(sys.modules.get(name.lstrip("_")))
            if error is not None:
                return error
            name = name.rpartition(".")[0]
    return None


def _error_in(module: Any) -> type[BaseException] | None:
    error = getattr(module, "Error", None)
    if hasattr(module, "apilevel") and isinstance(error, type) and issubclass(error, Exception):
        return error
    return None
