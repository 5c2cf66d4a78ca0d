"""A PoolState without a shell: steps that the tests of the pure state take, and the callers that they take them for."""

from __future__ import annotations

from typing import Any

from dbpool.entry import FOR_EVER, record
from dbpool.semaphore import Waiter

NOW = 1000.0


class Conn:
    """Anything that can be weakly referenced."""


class Alike(Conn):
    """A connection that is equal to every other."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    def __hash__(self) -> int:
        return 1


class Caller(Waiter):
    """Counts how often it is woken."""

    def __init__(self, key: Any = None, since: float = NOW, ident: int = 1) -> None:
        super().__init__(key, ident, since)
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def opened(state: Any, number: int = 1, now: float = NOW, lifetime: float = FOR_EVER, kind: Any = Conn) -> list[Any]:
    """Open so many connections, which go idle."""
    conns = []
    for _ in range(number):
        conn = kind()
        entry = record(conn, now, None, state.lost.append, lifetime, state.look_in)
        assert state.adopt(state.issue(now), entry, conn)
        conns.append(conn)
    return conns


def queued(state: Any, *callers: Caller, now: float = NOW) -> Any:
    """Have them stand in line; then match once."""
    for caller in callers:
        assert state.arrive(caller) is None
    return state.match(now)


def leased(state: Any, conn: Any, key: Any = None, now: float = NOW) -> Caller:
    """Lease *conn*, which is the only idle one."""
    caller = Caller(key, since=now)
    queued(state, caller, now=now)
    assert caller.conn is conn
    return caller


def put(state: Any, conn: Any, key: Any = None) -> None:
    """What putconn does when nobody waits."""
    entry = state.leases.pop(id(conn)) if key is None else state.claim_keyed(conn, key)
    assert entry is not None
    state.idle.append(conn)
