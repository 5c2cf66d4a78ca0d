"""Bugs, each planted in a shipped line of AsyncConnectionPool, that the loop's walk must find."""

from __future__ import annotations

import inspect
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from dbpool import AsyncConnectionPool
from dbpool.aio.connecting import AsyncConnecting
from dbpool.aio.core import AsyncCore
from dbpool.aio.lease import AsyncLease
from dbpool.aio.returning import AsyncReturning
from dbpool.aio.upkeep import AsyncUpkeep
from dbpool.state import PoolState

from .compiler import patched
from .loop_scenarios import LoopSetting
from .loop_settings import PINGED

if TYPE_CHECKING:
    from collections.abc import Iterator

Patch = tuple[Any, str, str, str]  # class, method, shipped text, wrong text
CANCELLED = LoopSetting(("get", "get"), cancels=1)
BUGS: dict[str, tuple[Patch, LoopSetting]] = {
    "lost wake-up: putconn does not look at the gate after the append": (
        (AsyncConnectionPool, "putconn", "if self._state.gate:", "if False:"),
        LoopSetting(("get", "get")),
    ),
    "lost wake-up: nobody matches after a connect": (
        (AsyncConnecting, "_connect_for", "    conn = None\n    self._settle()\n", "    conn = None\n"),
        LoopSetting(("get", "get"), idle=0),
    ),
    "lost wake-up: nobody matches after a close": (
        (AsyncCore, "_close_and_settle", "    self._settle()", "    pass"),
        LoopSetting(("get", "put(close)")),
    ),
    "lost connection: a cancelled caller takes along what it was given": (
        (AsyncConnectionPool, "getconn", "self._abandon(waiter)", "pass"),
        CANCELLED,
    ),
    "double holder: the claim of a put is no claim": (
        (AsyncConnectionPool, "putconn", "self._leases.pop(id(conn), None)", "self._leases.get(id(conn))"),
        LoopSetting(("get", "get")),
    ),
    "lost slot: who shared a key and leaves as the last leaves it under the key": (
        (PoolState, "hand_back", "        self.keyed.pop(waiter.key, None)", "        pass"),
        LoopSetting(("shared", "shared"), cancels=1, options=PINGED),
    ),
    "busy connection: a rollback that was cut off leaves it as it is": (
        (AsyncReturning, "_finish", 'self._dismiss(conn, "interrupted")', "self._idle.append(conn)"),
        LoopSetting(("dirty put", "get"), cancels=1),
    ),
    "swallowed cancel: the put of a block that was closed under": (
        (AsyncLease, "_put_after_all", "with suppress(self._pool._opener.errors.PoolError):", "if True:"),
        LoopSetting(("block", "closeall"), cancels=1),
    ),
    "busy connection: who shares a key is given what was cut off": (
        (AsyncUpkeep, "_examine", 'self._take_back(waiter, entry, "interrupted")', "pass"),
        LoopSetting(("shared", "shared"), cancels=1, options=PINGED),
    ),
    "lost wake-up: nobody matches after a rollback": (
        (AsyncReturning, "_finish", "if self._state.gate or self._lost:", "if False:"),
        LoopSetting(("dirty put", "get")),
    ),
    "lost slot: a connect that failed keeps its ticket": (
        (AsyncConnecting, "_connect_for", "    self._failed(ticket, exc)\n", "    pass\n"),
        LoopSetting(("get", "get"), idle=0, failures=1),
    ),
    "late close: closeall() leaves alone what is in use": (
        (AsyncConnectionPool, "_force", "in self._state.seize():", "in ():"),
        LoopSetting(("closeall", "get")),
    ),
    "late close: closeall() does not wait": (
        (AsyncConnectionPool, "_force", "while (self._openings | self._closings) - me:", "while False:"),
        LoopSetting(("closeall", "get")),
    ),
}


@contextmanager
def planted(wrong: Patch) -> Iterator[None]:
    """Have the class use a method with one text replaced."""
    kind, name, old, new = wrong
    method = inspect.unwrap(getattr(kind, name))
    text = patched(textwrap.dedent(inspect.getsource(method)), old, new)
    space: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + text, method.__globals__, space)
    with patch.object(kind, name, space[name]):
        yield
