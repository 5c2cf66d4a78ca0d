"""Planted bugs: a PoolState, or a Limiter, with one method wrong each. The machines must find every one."""

from __future__ import annotations

from typing import Any

from dbpool import Limiter
from dbpool.semaphore import FifoSemaphore
from dbpool.state import PoolState


class Stack(FifoSemaphore):
    """The youngest is the head."""

    __slots__ = ()

    def head(self) -> Any:
        waiters = list(self)
        return waiters[-1] if waiters else None


class ServesTheLastFirst(PoolState):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        permits = self.waiters.permits
        self.waiters = Stack(permits, self.lost.append)


class LosesTheSlotOfAFailedConnect(PoolState):
    def fail(self, ticket: Any, *errors: Any) -> bool:
        ref = ticket.ref
        delivered = super().fail(ticket, *errors)
        self.tickets[ref] = None
        return delivered


class ServesTheDeparted(PoolState):
    def depart(self, waiter: Any) -> None:
        self._take_back_ticket(waiter)


class LosesWhatIsHandedBack(PoolState):
    def hand_back(self, *given: Any) -> None:
        super().hand_back(*given)
        if self.idle:
            self.idle.pop()


class OpensTheGateBesideTheQueue(PoolState):
    def match(self, now: float) -> Any:
        todo = super().match(now)
        self.gate = self.closed
        return todo


class FreesTheSlotBeforeTheClose(PoolState):
    def condemn(self, conn: Any, reason: str) -> bool:
        condemned = super().condemn(conn, reason)
        self.entries.pop(id(conn), None)
        return condemned


class DrainsNoConnectUnderWay(PoolState):
    def drain(self) -> None:
        super().drain()
        self.generation -= 1


class CountsNoConnectUnderWay(PoolState):
    def size(self) -> int:
        return len(self.entries)


class AdoptsTooLate(PoolState):
    def adopt(self, ticket: Any, entry: Any, conn: Any) -> bool:
        if ticket.ref is None:
            self.idle.append(conn)
            self.entries[id(conn)] = entry
        return super().adopt(ticket, entry, conn)


class ForgetsAKeyWhenItIsPut(PoolState):
    def claim_keyed(self, conn: Any, key: Any) -> Any:
        """Which key it is, is not looked at."""
        return super().claim_keyed(conn, None)


BUGS = [bug for bug in list(globals().values()) if isinstance(bug, type) and PoolState in bug.__bases__]


class LosesWhatIsBeingOpened(Limiter):
    """One that is looked for while it is being opened is not in the list of ages any more."""

    def count(self, state: Any) -> None:
        if self._sizes[state.member] != (state.size(), len(state.closing)):
            super().count(state)


class LetsInWhoComesLater(Limiter):
    """Whoever asks is let in while there is room."""

    def grants(self, state: Any, since: float) -> bool:
        return self.limit > self.used


class SetsNoGate(Limiter):
    """Who puts is not made to look."""

    def _set_gates(self) -> None:
        pass


class ThinksOfTheLivingOnly(Limiter):
    """Nobody looks where one was dropped."""

    def _reap(self) -> None:
        pass


class CountsNoConnects(Limiter):
    """What is being opened does not count."""

    def grants(self, state: Any, since: float) -> bool:
        return self.limit + sum(len(each.tickets) for each in self.states()) - self.used > self._older(state, since)


LIMITERS = [LosesWhatIsBeingOpened, LetsInWhoComesLater, SetsNoGate, ThinksOfTheLivingOnly, CountsNoConnects]
