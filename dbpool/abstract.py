"""AbstractConnectionPool: the interface of psycopg2's pools, and the two hits, which run beside the state machine."""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from dbpool import logs
from dbpool.clock import uptime
from dbpool.config import DEFAULT, PoolConfig, Timeout, seconds, sizes
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.housekeeper import housekeeper
from dbpool.lease import KeyedLease, Lease
from dbpool.listener import tell
from dbpool.locks import RLock
from dbpool.proxy import ConnectionProxy, lend
from dbpool.semaphore import Waiter
from dbpool.shell import Shell
from dbpool.views import Views

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.stats import PoolStats

C = TypeVar("C")
P = TypeVar("P", bound="AbstractConnectionPool[Any]")
_new: Any = object.__new__  # bound once: it is in the way of every with block


class SingleWaiter(Waiter):
    """The waiter of a pool that one thread uses. It never sleeps, so nobody wakes it."""

    __slots__ = ()

    def wake(self) -> None:
        pass


class AbstractConnectionPool(Views[C], Shell[C]):
    """Keyed getconn, putconn and closeall over any DB-API connect(). Used directly it is a SimpleConnectionPool.

    *minconn* connections are opened at once, at most *maxconn* are ever open. *connect* is a callable, a DB-API
    module or a Connector; None means psycopg2, else ksycopg2. *config* is a PoolConfig or a mapping of its options.
    All other arguments go to connect untouched, as in psycopg2.pool.

    Raises TypeError or ValueError naming an argument that is wrong, and whatever connect raises; nothing is left open.
    """

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None,
        config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        args, kwargs = HiddenArgs(args), HiddenKwargs(kwargs)  # a traceback may show the locals of its frames
        super().__init__(minconn, maxconn, connect, args, kwargs, config)
        try:
            if self._config.start == "eager":
                self.open()
            elif self._config.start == "background":
                self._open_missing([], wait=False)
        except BaseException:
            self._force()
            raise

    def _check_config(self) -> None:
        if self._config.start == "background":
            raise ValueError(f"start='background' needs threads, and {type(self).__name__} uses none")

    def _new_lock(self) -> Any:
        # Also for one thread: it tells when it is entered again, by a finalizer or a signal, and no interrupt can cut
        # its release in two, as it can a Python method.
        return RLock()

    def _new_waiter(self, key: Any, limit: float | None = None) -> Waiter:
        return SingleWaiter(key, get_ident(), uptime(), limit)

    # ---- the two hits: no lock. docs/internals tells why each line stands where it does -----------------------------

    def getconn(self, key: Any = None, timeout: Timeout = DEFAULT) -> C:
        """Return a connection; with a *key*, the one that is leased under the key, if there is one.

        Opens one if none is idle and fewer than maxconn are open. *timeout*: seconds to wait for all that together,
        None for ever, 0 not at all for one to come back; default: as configured. SimpleConnectionPool never waits.
        Raises PoolExhausted (PoolTimeout after waiting), PoolClosed, or what connect raised.
        """
        state = self._state
        if timeout is not DEFAULT:
            seconds("timeout", timeout)
        if state.gate or key is not None:
            return self._obtain(key, timeout)  # type: ignore[no-any-return]
        conn = None
        try:
            conn = self._take()
            cid = id(conn)
            entry = self._entries[cid]
            now = uptime()
            if now < entry.look_at:
                if not self._unfit(conn):
                    entry.holder = get_ident()
                    entry.since = now
                    entry.uses += 1
                    self._leases[cid] = entry
                    if not state.closed:  # after the lease, never before
                        return conn  # type: ignore[no-any-return]
            else:  # it is looked at closely by whoever is given it
                self._untake(conn)
                conn = None
        except (IndexError, KeyError):  # none is idle, or it was seized meanwhile
            pass
        except BaseException:
            self._dismiss(conn, "interrupted")
            raise
        self._dismiss(conn, "unfit")
        conn = None
        return self._obtain(key, timeout)  # type: ignore[no-any-return]

    def putconn(self, conn: C | None = None, key: Any = None, close: bool = False) -> None:
        """Give *conn* back: it is made clean, and goes to the caller who waits longest or becomes idle.

        *key*, if given, must be the one that it is leased under. *close*: close it instead.
        Raises PoolError if *conn* is not leased from this pool, PoolClosed if the pool was closed; never because the
        server is gone.
        """
        entry = None
        try:
            if key is None:
                entry = self._leases.pop(id(conn))  # the claim
                # What died is in lost until its lease is gone: so this cannot be the lease of a dead connection that
                # had the same id.
                if not self._lost and not (close or self._unclean(conn)):
                    self._idle.append(conn)
                    entry = None  # from here on it may be another's
                    if self._state.gate:  # after the append, never before
                        self._settle()
                    return
        except KeyError:  # no such lease
            pass
        except BaseException:
            if entry is not None:
                self._state.restore(conn, entry)
            raise
        self._return(conn, entry, key, close)

    # ---- for everybody ----------------------------------------------------------------------------------------------

    def connection(self, key: Any = None) -> Lease[C]:
        """Return a context manager that lends a connection: commit on success, rollback on error, always put back.

        Entering it waits and raises as getconn(*key*) does.
        """
        if key is not None:
            return self._keyed_lease(key)
        lease: Lease[C] = _new(Lease)
        lease._pool = self
        return lease

    def _keyed_lease(self, key: Any) -> Lease[C]:
        lease: KeyedLease[C] = _new(KeyedLease)
        lease._pool = self
        lease._key = key
        return lease

    def connect(self, key: Any = None, timeout: Timeout = DEFAULT) -> ConnectionProxy[C]:
        """Return a connection whose close() gives it back: for whatever expects a DB-API connect.

        Waits and raises as getconn(*key*, *timeout*) does. Dropped without close(), it is given back too.
        """
        return lend(self, key, timeout)

    def open(self) -> None:
        """Open what is missing to have minconn connections, and wait for it, up to connect_timeout.

        Raises what connect raised first; those that were opened stay.
        """
        if self._state.closed:
            raise self._opener.errors.PoolClosed("connection pool is closed")
        errors: list[BaseException] = []
        self._open_missing(errors, wait=True)
        if errors:
            try:
                raise errors.pop()
            finally:
                errors.clear()

    def closeall(self) -> None:
        """Close all connections, those in use too, and refuse everybody from now on (psycopg2's meaning).

        Raises PoolClosed if the pool is closed already.
        """
        if self._state.closed:
            raise self._opener.errors.PoolClosed("connection pool is closed")
        self._force()
        tell(self._listener, "closed", self)

    def close(self, timeout: Timeout = DEFAULT) -> None:
        """Refuse and wake all who wait, wait up to *timeout* seconds for leased connections, then close those too.

        May be called again. SimpleConnectionPool does not wait.
        """
        limit = self._limit(timeout)
        already = self._state.closed
        with self._lock:
            self._state.shut()
        self._settle()
        if not self._lock._is_owned():  # else entered from within itself, by a signal perhaps: nobody could come back
            self._wait_until_empty(limit)
        self._force()
        if not already:
            tell(self._listener, "closed", self)

    def _force(self) -> None:
        with self._lock:
            self._state.shut()
            doomed = self._state.seize()
        while doomed:
            self._close(doomed.pop())
        self._settle()
        housekeeper.leave(self)
        logs.left_out(self, at_once=True)

    def _wait_until_empty(self, limit: float | None) -> None:
        pass

    def drain(self) -> None:
        """Have every connection replaced: idle ones are closed now, leased ones when they come back."""
        with self._lock:
            self._state.drain()
        self._settle()

    def resize(self, minconn: int, maxconn: int) -> None:
        """Change the sizes. Whoever waits is served at once if there is room now; too many idle ones are closed."""
        sizes(minconn, maxconn)
        with self._lock:
            self._state.set_limits(minconn, maxconn)
        self._settle()
        if self._config.start != "lazy" and not self._state.closed:
            self._open_missing([], wait=False)

    def check(self) -> PoolStats:
        """Do at once what is else done in the background, and ping every idle connection; return the stats after it.

        Closes what is past its lifetime or idle for too long, or does not answer within check_timeout; opens what is
        missing to have minconn; tells of leases longer than leak_threshold. With background=False, call it at times.
        """
        self._tidy(0.0, wait=True)
        return self.stats()

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
