"""Connecting: tasks open connections under tickets. Nobody who is cancelled cuts one off: it goes to the next."""
# mypy: disable-error-code="override"
# (What may wait in the pools for threads is awaited here, or done by a task.)

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from dbpool.aio.core import AsyncCore
from dbpool.clock import uptime
from dbpool.core import C
from dbpool.listener import tell

if TYPE_CHECKING:
    from dbpool.entry import Ticket


class AsyncConnecting(AsyncCore[C]):
    """How the connections of a pool come to be."""

    def _start(self, ticket: Ticket) -> None:
        if self._begin(ticket):
            self._spawn(self._connect_for(ticket), self._openings)

    async def _connect_for(self, ticket: Ticket) -> BaseException | None:
        """Open a connection under *ticket*, for whoever is first in line by then; return what went wrong."""
        if not ticket.claim():
            return None
        state, began, process, conn = self._state, uptime(), self._process, None
        try:
            conn, marks = await self._opener.open(partial(self._is_wanted, ticket))
            self._know(marks)
            entry = self._record(conn, marks)
            tell(self._listener, "connected", self, conn, uptime() - began)
            if state.adopt(ticket, entry, conn):
                self._tell_recovered(self._connected(entry, began))
                self._tend(entry)
            else:
                self._let_go(conn, process)
        except BaseException as exc:
            if conn is not None and self._entries.get(id(conn)) is None:
                self._let_go(conn, process)
            if isinstance(exc, asyncio.CancelledError):  # the pool is closed, or its loop is about to be
                state.fail(ticket, self._opener.errors.PoolError("opening a connection was cancelled"))
                self._settle()
                raise
            if isinstance(exc, self._opener.errors.PoolTimeout):
                state.aborted += 1
            self._failed(ticket, exc)
            if state.is_refused() and state.missing() and self._tended:
                self._await_sweep()
            if not isinstance(exc, Exception):
                raise
            return exc
        conn = None
        self._settle()
        return None

    def _let_go(self, conn: Any, process: int) -> None:
        if process == self._process:
            self._opener.abandon(conn)
        else:
            super()._let_go(conn, process)

    # ---- having minconn ---------------------------------------------------------------------------------------------

    def _open_missing(self, errors: list[BaseException], wanted: int | None = None) -> None:
        """Have tasks open what is missing to have *wanted* connections (default: minconn)."""
        state = self._state
        missing = state.to_open() if wanted is None else max(0, wanted - state.size())
        for _ in range(min(missing, self._config.max_connecting or missing)):
            self._spawn(self._fill(errors, wanted), self._openings)

    async def _opened(self, wanted: int, errors: list[BaseException]) -> None:
        """Wait until *wanted* connections are open, or none is being opened any more, or there is an error."""
        while self._openings and not errors and len(self._entries) - len(self._state.closing) < wanted:
            await asyncio.wait(self._openings, return_when=asyncio.FIRST_COMPLETED)

    async def _fill(self, errors: list[BaseException], wanted: int | None = None) -> None:
        """Open what is missing, one after the other; stop at the first that fails."""
        state = self._state
        while not errors and state.size() < (state.minconn if wanted is None else wanted):
            ticket = state.try_issue(uptime())
            if ticket is None:
                return
            state.begin(ticket)
            error = await self._connect_for(ticket)
            ticket = None
            if error is not None:
                errors.append(error)
