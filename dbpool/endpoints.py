"""EndpointPool: one pool over many endpoints, each with connections of its own, and one limit over all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from dbpool import logs
from dbpool.clock import uptime
from dbpool.config import DEFAULT, Default, PoolConfig, Timeout, seconds
from dbpool.directory import C, Directory, E, Member
from dbpool.entry import FOR_EVER
from dbpool.errors import PoolClosed
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.housekeeper import housekeeper
from dbpool.lease import Lease
from dbpool.listener import tell
from dbpool.pool import ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from dbpool.limiter import Limiter
    from dbpool.proxy import ConnectionProxy
    from dbpool.stats import PoolStats

P = TypeVar("P", bound="EndpointPool[Any, Any]")
OPENERS, SWEEPERS = 8, 4  # endpoints that are opened, and that are swept, at a time
_new: Any = object.__new__


class ThreadedMember(Member[C], ThreadedConnectionPool[C]):
    """The pool of one endpoint. There may be thousands: the housekeeper has one sweep for all of them."""

    def _sweep_by(self, when: float) -> None:
        many = self._many()
        if many is not None:
            many._sweep_by(when)  # type: ignore[attr-defined]


class EndpointLease(Lease[C]):
    """``with pool.connection(endpoint) as conn``: as each pool has it, on a connection to one endpoint."""

    __slots__ = ("_endpoint", "_many")

    _endpoint: Any
    _many: Any

    def __enter__(self) -> C:
        while True:
            self._pool = member = self._many._member(self._endpoint)
            try:
                return super().__enter__()
            except PoolClosed:
                if not self._many._is_forgotten(member):
                    raise


class EndpointPool(Directory[E, C]):
    """A pool that threads share, over many endpoints: addresses, tenants, databases, anything hashable.

    Each endpoint has up to *maxconn* connections, and keeps *minconn* once it is known; all together have up to
    *total*, a number or a Limiter. When that is reached, the connection that was used least recently, of those that
    lie idle, is closed for whoever waits; first come, first served across all endpoints. An endpoint with no connection
    and no caller is forgotten.

    *connect* gets the endpoint before all other arguments. With *endpoints*, a mapping, an endpoint is one of its keys,
    and connect gets the value: a DSN (or whatever it takes first), or a mapping of keywords; minconn connections are
    opened to each by the constructor. *config* holds for each endpoint.

    Raises TypeError or ValueError naming an argument that is wrong, and whatever connect raises; nothing is left open.
    """

    _kind = ThreadedMember

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None, total: int | Limiter | None = None,
        endpoints: Mapping[E, Any] | None = None, config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        args, kwargs = HiddenArgs(args), HiddenKwargs(kwargs)  # a traceback may show the locals of its frames
        self._due = FOR_EVER  # when the next sweep is
        super().__init__(
            minconn, maxconn, *args, connect=connect, total=total, endpoints=endpoints, config=config, **kwargs
        )
        if self._named and minconn and self._config.start != "lazy":
            self._open_named(list(self._named))  # type: ignore[arg-type]

    def _open_named(self, endpoints: list[E]) -> None:
        """Open minconn connections to each; several at a time."""

        def begin(endpoint: E) -> None:
            self._pools[endpoint] = self._made(endpoint, self._config.start)

        try:
            if self._config.background:
                with ThreadPoolExecutor(min(OPENERS, len(endpoints))) as threads:
                    list(threads.map(begin, endpoints))
            else:
                for endpoint in endpoints:
                    begin(endpoint)
        except BaseException:
            self.close(timeout=0)
            raise

    # ---- connections ------------------------------------------------------------------------------------------------

    def getconn(self, endpoint: E, timeout: Timeout = DEFAULT) -> C:
        """Return a connection to *endpoint*.

        Opens one if none is idle there, and the limits allow it. *timeout*: seconds to wait for all that together, None
        for ever, 0 not at all for one to come back; default: as configured. Raises PoolExhausted (PoolTimeout after
        waiting), PoolClosed, or what connect raised.
        """
        if timeout is not DEFAULT:  # before the endpoint is known
            seconds("timeout", timeout)
        while True:
            member = self._member(endpoint)
            try:
                return member.getconn(None, timeout)  # type: ignore[no-any-return]
            except PoolClosed:
                if not self._is_forgotten(member):
                    raise

    def putconn(self, conn: C, close: bool = False) -> None:
        """Give *conn* back, as ThreadedConnectionPool.putconn does; the pool knows its endpoint. *close*: close it.

        Raises PoolError if *conn* is not leased from this pool, PoolClosed if the pool was closed.
        """
        self._owner(conn).putconn(conn, None, close)

    def connection(self, endpoint: E) -> EndpointLease[C]:
        """Return a context manager that lends a connection: commit on success, rollback on error, always put back.

        Entering it waits and raises as getconn(*endpoint*) does.
        """
        lease: EndpointLease[C] = _new(EndpointLease)
        lease._many, lease._endpoint = self, endpoint
        return lease

    def connect(self, endpoint: E, timeout: Timeout = DEFAULT) -> ConnectionProxy[C]:
        """Return a connection to *endpoint* whose close() gives it back.

        Waits and raises as getconn(*endpoint*, *timeout*) does. Dropped without close(), it is given back too.
        """
        if timeout is not DEFAULT:
            seconds("timeout", timeout)
        while True:
            member = self._member(endpoint)
            try:
                return member.connect(None, timeout)  # type: ignore[no-any-return]
            except PoolClosed:
                if not self._is_forgotten(member):
                    raise

    # ---- all endpoints ----------------------------------------------------------------------------------------------

    def drain(self, endpoint: E | Default = DEFAULT) -> None:
        """Have every connection, or each to *endpoint*, replaced: idle ones now, leased ones when they come back."""
        for member in self._chosen(endpoint):
            member.drain()

    def resize(self, minconn: int, maxconn: int) -> None:
        """Change the sizes at each endpoint. Whoever waits is served at once if there is room now."""
        for member in self._resized(minconn, maxconn):
            member.resize(minconn, maxconn)

    def check(self) -> dict[E, PoolStats]:
        """Do at once what is else done in the background, and ping every idle connection; return the stats after it."""
        for member in list(self._pools.values()):
            member.check()
        return self.stats()

    def closeall(self) -> None:
        """Close all connections, those in use too, and refuse everybody from now on (psycopg2's meaning).

        Raises PoolClosed if the pool is closed already.
        """
        if self._closed:
            raise self._errors.PoolClosed("connection pool is closed")
        for member in self._shut():
            member._force()
        self._end()
        tell(self._config.listener, "closed", self)

    def close(self, timeout: Timeout = DEFAULT) -> None:
        """Refuse and wake all who wait, wait up to *timeout* seconds for leased connections, then close those too.

        May be called again.
        """
        deadline, already = self._deadline(timeout), self._closed
        members = self._shut()
        for member in members:
            member.close(None if deadline == FOR_EVER else max(0.0, deadline - uptime()))
        self._end()
        if not already:
            tell(self._config.listener, "closed", self)

    def _end(self) -> None:
        self._due = FOR_EVER
        housekeeper.leave(self)

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the background ------------------------------------------------------------------------------------------

    def _sweep_by(self, when: float) -> None:
        if when < self._due:
            self._due = when
            housekeeper.sweep(self, when)

    def _sweep(self) -> None:
        """What the housekeeper has done from time to time, in a thread that it starts."""
        self._due = FOR_EVER  # each says when it wants the next
        members = list(self._pools.values())
        if self._config.ping_interval is None:
            for member in members:
                _sweep(member)
        else:  # a server that does not answer holds up its own sweep
            with ThreadPoolExecutor(SWEEPERS) as threads:
                list(threads.map(_sweep, members))

    def _renew_after_fork(self) -> None:
        super()._renew_after_fork()
        self._due = FOR_EVER


def _sweep(member: ThreadedMember[Any]) -> None:
    """Sweep one; what goes wrong there is nothing to the others."""
    try:
        member._sweep()
    except Exception:
        logs.exception("%s: the sweep failed", member.name)
