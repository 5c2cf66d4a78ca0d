"""KeyboardInterrupt at every point with everything on: pings, deadlines, traces, listener, limiter, the housekeeper."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError

from dbpool import Limiter, PoolListener, ThreadedConnectionPool

from .pools import MAXCONN, STEP, all_slots_back, check, leased
from .sweep import sweep

pytestmark = [
    pytest.mark.interrupts,
    pytest.mark.usefixtures("silent"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class SocketConnection(FakeConnection):
    """A fake with a real descriptor: so its calls have deadlines, and it is watched."""

    def __init__(self) -> None:
        super().__init__(1)
        self.sockets = socket.socketpair()
        self.dead = False

    def fileno(self) -> int:
        return self.sockets[0].fileno()

    def close(self) -> None:
        super().close()
        for each in self.sockets:
            each.close()


class SocketConnector(FakeConnector):
    """Pings it."""

    def __init__(self) -> None:
        super().__init__(SocketConnection)

    def ping(self, conn: Any) -> None:
        if conn.dead:
            raise OperationalError("dead")


def everything(idle: int = MAXCONN) -> Any:
    """Return a pool with every option that there is."""
    options = {
        "check_after": 0, "ping_after": 0, "ping_interval": 60, "ping_on_return": True, "ping_on_connect": True,
        "leak_threshold": 60, "trace": True, "listener": PoolListener(), "limiter": Limiter(MAXCONN),
    }  # fmt: skip
    return ThreadedConnectionPool(idle, MAXCONN, connect=SocketConnector(), config=options)


def plain(**options: Any) -> Any:
    def make() -> Any:
        return ThreadedConnectionPool(MAXCONN, MAXCONN, connect=SocketConnector(), config=options)

    return make


def with_neighbour() -> Any:
    """Return a pool under a limiter of which another pool has all the connections, idle."""
    limiter = Limiter(MAXCONN)
    neighbour = ThreadedConnectionPool(MAXCONN, MAXCONN, connect=SocketConnector(), config={"limiter": limiter})
    pool = ThreadedConnectionPool(0, MAXCONN, connect=SocketConnector(), config={"limiter": limiter})
    pool.neighbour = neighbour
    return pool


def get_and_put(pool: Any) -> None:
    pool.putconn(pool.getconn())


def get_the_dead(pool: Any) -> None:
    for conn in list(pool._idle):
        conn.dead = True
    conn = None
    pool.putconn(pool.getconn())


def put_in_transaction(pool: Any) -> None:
    pool.held[0].execute()
    pool.putconn(pool.held[0])


def failing_block(pool: Any) -> None:
    try:
        with pool.connection() as conn:
            conn.execute()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def have_checked(pool: Any) -> None:
    pool.check()


def lose(pool: Any) -> None:
    pool._lose(list(pool._entries.values()))


OPERATIONS = {
    "getconn + putconn, everything on": (everything, get_and_put),
    "getconn + putconn, pinged": (plain(ping_after=0), get_and_put),
    "getconn + putconn, polled": (plain(check_after=0), get_and_put),
    "getconn of dead ones": (plain(ping_after=0), get_the_dead),
    "putconn in a transaction, everything on": (leased(everything), put_in_transaction),
    "putconn in a transaction, with a deadline": (leased(plain()), put_in_transaction),
    "a with block that fails": (plain(), failing_block),
    "check()": (plain(ping_interval=60), have_checked),
    "the watch tells of losses": (plain(), lose),
    "getconn + putconn, of a neighbour's under a limiter": (with_neighbour, get_and_put),
}


@pytest.mark.fault(43)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupt_anywhere_loses_no_slot(name: str) -> None:
    make, operation = OPERATIONS[name]
    check(sweep(make, operation, all_slots_back, step=STEP, name=name))
