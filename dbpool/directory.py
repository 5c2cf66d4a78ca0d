"""Directory: which endpoints a pool has, whose each connection is, and what all of them have in common."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ref

from dbpool import fork
from dbpool.clock import uptime
from dbpool.config import Default, PoolConfig, Timeout, seconds, sizes
from dbpool.entry import FOR_EVER
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.limiter import Limiter
from dbpool.locks import RLock
from dbpool.masking import masked
from dbpool.opening import Opener

if TYPE_CHECKING:
    from dbpool.entry import Entry
    from dbpool.holders import PoolUser
    from dbpool.stats import PoolStats
    from dbpool.verdict import Verdict

C = TypeVar("C")
E = TypeVar("E", bound=Hashable)
FEWEST = 64  # connections that are remembered before the list is looked through for those that are gone
LONGEST_NAME = 60  # characters of an endpoint in a name
_numbers = itertools.count(1)
_new: Any = object.__new__


class Member(Generic[C]):
    """What makes a pool that of one endpoint: it says whose its connections are, and ends when it has none."""

    endpoint: Any
    _state: Any
    _lock: Any

    def _belong(self, many: Directory[Any, C], endpoint: Any) -> None:
        self._many, self.endpoint = ref(many), endpoint

    def _record(self, conn: Any, marks: Any) -> Entry[Any]:
        entry: Entry[Any] = super()._record(conn, marks)  # type: ignore[misc]
        many = self._many()
        if many is not None:
            many._remember(entry.cid, self)
        return entry

    def _do(self, todo: Any, aside: bool = False) -> list[bool]:
        again: list[bool] = super()._do(todo, aside)  # type: ignore[misc]
        if not again and self._is_empty():
            many = self._many()
            if many is not None:
                many._forget(self)
        return again

    def _is_empty(self) -> bool:
        return not (self._state.size() or self._state.waiters)

    def _end_if_empty(self) -> bool:
        """Refuse everybody from now on, if there is nobody and nothing."""
        with self._lock:
            empty = self._is_empty()
            if empty:
                self._state.shut()
                if self._state.limiter is not None:
                    self._state.limiter.leave(self._state)
        return empty

    def _retired(self) -> None:
        """It is forgotten."""


class Directory(Generic[E, C]):
    """The pools of many endpoints: which there are, whose a connection is, and what all have in common."""

    _kind: Any = None  # the class of each endpoint's pool
    _opener: Any = Opener

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None, total: int | Limiter | None = None,
        endpoints: Mapping[E, Any] | None = None, config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        sizes(minconn, maxconn)
        self._minconn, self._maxconn = minconn, maxconn
        self._args, self._kwargs, self._connect = HiddenArgs(args), HiddenKwargs(kwargs), connect
        options = PoolConfig.of(config)
        self._total = _limiter(total, options)
        self.name = options.name or f"endpoints-{next(_numbers)}"
        self._config = options.replace(name=self.name, limiter=self._total)
        if endpoints is not None and not isinstance(endpoints, Mapping):
            raise TypeError(
                f"endpoints must be a mapping of names to DSNs or keywords, not a {type(endpoints).__name__}"
            )
        self._named = None if endpoints is None else HiddenKwargs(endpoints)  # type: ignore[arg-type]
        self._errors = self._opener(connect, (), {}, self._config, None).errors
        self._renew()
        fork.watch(self)

    def _renew(self) -> None:
        self._lock = RLock()  # guards which endpoints there are; taken before the lock of an endpoint's pool
        self._pools: dict[E, Any] = {}
        self._owners: dict[int | None, Any] = {}  # id(connection) -> the pool that has it, or had it: that one knows
        self._most = FEWEST
        self._closed = False

    def _renew_after_fork(self) -> None:
        """In a child process: begin with nothing."""
        closed = self._closed
        self._renew()
        self._closed = closed

    # ---- what can be asked ------------------------------------------------------------------------------------------

    @property
    def total(self) -> Limiter | None:
        """The limit over all endpoints; other pools may share it."""
        return self._total

    @property
    def endpoints(self) -> list[E]:
        """The endpoints that have connections, or callers who wait for one."""
        return list(self._pools)

    @property
    def minconn(self) -> int:
        return self._minconn

    @property
    def maxconn(self) -> int:
        return self._maxconn

    @property
    def closed(self) -> bool:
        return self._closed

    def stats(self) -> dict[E, PoolStats]:
        """Return what is going on at each endpoint that has connections or callers, as frozen PoolStats."""
        return {endpoint: member.stats() for endpoint, member in list(self._pools.items())}

    def holders(self) -> dict[E, list[PoolUser]]:
        """Return who holds connections to which endpoint, and for how long; the longest first."""
        return {endpoint: users for endpoint, member in list(self._pools.items()) if (users := member.holders())}

    def waiters(self) -> dict[E, list[PoolUser]]:
        """Return who waits for connections to which endpoint, and for how long; the next one first."""
        return {endpoint: users for endpoint, member in list(self._pools.items()) if (users := member.waiters())}

    def verdict(self) -> dict[E, Verdict]:
        """Return what is the matter with each endpoint that has connections or callers: one line and a code."""
        return {endpoint: member.verdict() for endpoint, member in list(self._pools.items())}

    def __repr__(self) -> str:
        if "_pools" not in self.__dict__:
            return f"<{type(self).__name__} not made>"
        size = sum(member._state.size() for member in list(self._pools.values()))
        words = f"{len(self._pools)} endpoints, {size} connections, max {self._maxconn} each"
        if self._total is not None:
            words += f", {self._total.used} of {self._total.limit} in total"
        return f"<{type(self).__name__} {self.name!r} {'closed, ' * self._closed}{words}>"

    # ---- which endpoints there are ----------------------------------------------------------------------------------

    def _member(self, endpoint: E) -> Any:
        """Return the pool of *endpoint*; it is made when it is first needed."""
        try:
            found = self._pools.get(endpoint)
        except TypeError:
            raise TypeError(f"endpoint must be hashable, and a {type(endpoint).__name__} is not") from None
        if found is None:
            with self._lock:
                if self._closed:
                    raise self._errors.PoolClosed("connection pool is closed")
                found = self._pools.get(endpoint)
                if found is None:
                    found = self._pools[endpoint] = self._made(endpoint, self._later())
        return found

    def _made(self, endpoint: E, start: str) -> Any:
        args, kwargs = self._arguments(endpoint)
        name = f"{self.name}[{shown(endpoint)[:LONGEST_NAME]}]"
        member = _new(self._kind)
        member._belong(self, endpoint)
        config = self._config.replace(name=name, start=start)
        member.__init__(self._minconn, self._maxconn, *args, connect=self._connect, config=config, **kwargs)
        return member

    def _later(self) -> str:
        """How minconn is opened at an endpoint that was not known before: nobody waits for it."""
        return "background" if self._minconn and self._config.background else "lazy"

    def _arguments(self, endpoint: E) -> tuple[HiddenArgs, HiddenKwargs]:
        """Return what connect is called with: the endpoint first, or what ``endpoints`` has for its name."""
        given: Any = endpoint
        if self._named is not None:
            try:
                given = self._named[endpoint]  # type: ignore[index]
            except KeyError:
                raise ValueError(f"endpoint {shown(endpoint)} is not one of endpoints=") from None
        if self._named is not None and isinstance(given, Mapping):
            return self._args, HiddenKwargs({**self._kwargs, **given})
        return HiddenArgs((given, *self._args)), self._kwargs

    def _forget(self, member: Any) -> None:
        """Forget an endpoint that has nothing: no connection, and nobody who wants one.

        Can be cut off anywhere, and run again.
        """
        if self._closed or (self._named is not None and self._minconn):
            return  # all are closed; or it is known for good, and to have minconn it tries again
        with self._lock:
            known = self._pools.get(member.endpoint) is member
            if known and member._end_if_empty():
                self._pools.pop(member.endpoint, None)
                member._retired()

    def _is_forgotten(self, member: Any) -> bool:
        """True if *member* refuses because its endpoint was forgotten just now: ask again."""
        self._forget(member)  # if that was cut off
        with self._lock:
            return not self._closed and self._pools.get(member.endpoint) is not member

    # ---- whose a connection is --------------------------------------------------------------------------------------

    def _remember(self, cid: int | None, member: Any) -> None:
        if len(self._owners) >= self._most:
            members = list(self._pools.values())
            self._owners = owners = {cid: each for each in members for cid in list(each._entries)}
            self._most = max(FEWEST, 2 * len(owners))
        self._owners[cid] = member

    def _owner(self, conn: Any) -> Any:
        """Return the pool that *conn* is from."""
        cid = id(conn)
        owner = self._owners.get(cid)
        if owner is not None and _has(owner, conn):
            return owner
        for member in list(self._pools.values()):  # what was opened while the list was looked through is not on it
            if _has(member, conn):
                return member
        if self._closed:
            raise self._errors.PoolClosed("connection pool is closed")
        raise self._errors.PoolError(
            f"trying to put a connection that is not leased from {self.name!r} (put back already, closed, or another "
            "pool's)"
        )

    def _resized(self, minconn: int, maxconn: int) -> list[Any]:
        sizes(minconn, maxconn)
        with self._lock:
            self._minconn, self._maxconn = minconn, maxconn
            return list(self._pools.values())

    def _chosen(self, endpoint: Any) -> list[Any]:
        """Return the pool of one endpoint, if it is known; all, if none is named."""
        if isinstance(endpoint, Default):
            return list(self._pools.values())
        member = self._pools.get(endpoint)
        return [] if member is None else [member]

    def _shut(self) -> list[Any]:
        """Refuse everybody from now on; return all pools."""
        with self._lock:
            self._closed = True
            members = list(self._pools.values())
        for member in members:
            with member._lock:
                member._state.shut()
            member._settle()
        return members

    def _deadline(self, timeout: Timeout) -> float:
        limit = self._config.timeout if isinstance(timeout, Default) else seconds("timeout", timeout)
        return FOR_EVER if limit is None else uptime() + limit


def _has(member: Any, conn: Any) -> bool:
    """True if *conn* is a connection of *member*'s, and not only where one was that has died."""
    entry = member._entries.get(id(conn))
    return entry is not None and entry() is conn


def shown(endpoint: Any) -> str:
    """Return what names, errors and logs show of an endpoint: no password, and no error of its own."""
    if isinstance(endpoint, str):
        return repr(masked(endpoint))  # first, for repr may put a backslash before each of its quotes
    if type(endpoint) is tuple:
        return f"({', '.join(shown(each) for each in endpoint)}{',' * (len(endpoint) == 1)})"
    try:
        return masked(repr(endpoint))
    except Exception:
        return f"<{type(endpoint).__name__}>"


def _limiter(total: int | Limiter | None, options: PoolConfig) -> Limiter | None:
    """Return the limit over all endpoints: *total*, or the option."""
    if total is None:
        return options.limiter
    if options.limiter is not None:
        raise ValueError("total and the option limiter are the same: give one of them")
    if isinstance(total, Limiter):
        return total
    if isinstance(total, bool) or not isinstance(total, int):
        raise TypeError(f"total must be a whole number, a Limiter or None, not a {type(total).__name__}")
    if total < 1:
        raise ValueError(f"total must be at least 1, not {total}")
    return Limiter(total)
