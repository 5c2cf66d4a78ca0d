"""Places: a driver with connections to many endpoints, and what tests of the pools over them do."""

from __future__ import annotations

import threading
from typing import Any

from fakes import FakeDriver, OperationalError


class Places(FakeDriver):
    """Connections to many endpoints; those that are *down* refuse, those that hang wait until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[Any] = set()
        self._hanging: dict[Any, threading.Event] = {}
        self._begun: set[Any] = set()

    def hang(self, endpoint: Any) -> None:
        """Have every connect to it hang."""
        self._hanging[endpoint] = threading.Event()

    def release(self, *endpoints: Any) -> None:
        """Let what hangs go on: all, if none is named."""
        for endpoint in endpoints or list(self._hanging):
            self._hanging.pop(endpoint).set()

    def hangs(self, endpoint: Any) -> bool:
        """True once somebody waits there."""
        return endpoint in self._begun

    def connect(self, endpoint: Any, *args: Any, **kwargs: Any) -> Any:
        if endpoint in self._hanging:
            hanging = self._hanging[endpoint]
            self._begun.add(endpoint)
            assert hanging.wait(30), "the test never released it"
        if endpoint in self.down:
            self.calls += 1
            raise OperationalError(f"{endpoint} is down")
        conn: Any = super().connect()
        conn.endpoint, conn.given = endpoint, (args, kwargs)
        return conn


def touch(pool: Any, *endpoints: Any) -> None:
    """Have an idle connection to each."""
    for endpoint in endpoints:
        pool.putconn(pool.getconn(endpoint))


def closed_one(places: Places) -> list[Any]:
    """Return the endpoints of the connections that were closed."""
    return sorted(conn.endpoint for conn in places.made if conn.closed)
