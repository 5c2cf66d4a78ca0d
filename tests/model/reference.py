"""Reference: what a pool must do, in plain lists. It knows no lock, no weak reference, and nothing that is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Connect:
    """A connect that holds a slot. *lost*: nobody is working on it any more, and the pool has not noticed yet."""

    owner: Turn | None
    deadline: float
    begun: bool = False
    stale: bool = False
    lost: bool = False


@dataclass(eq=False)
class Turn:
    """A caller who waits in line until there is an answer: a connection's number, or the name of an error."""

    key: Any = None
    answer: Any = None
    connect: Connect | None = None


class Reference:
    """Connections are numbers; ``idle`` and ``queue`` have the oldest first."""

    def __init__(
        self, minconn: int, maxconn: int, *, max_overflow: int | None = 0, max_waiting: int | None = None,
        max_connecting: int | None = None, keep_surplus: bool = True, oldest_first: bool = False, at_home: bool = False,
    ) -> None:  # fmt: skip
        self.max_overflow, self.max_waiting, self.max_connecting = max_overflow, max_waiting, max_connecting
        self.keep_surplus, self.oldest_first, self.at_home = keep_surplus, oldest_first, at_home
        self.queue: list[Turn] = []
        self.idle: list[int] = []
        self.connects: list[Connect] = []
        self.open: set[int] = set()  # every connection until the pool has noticed its end
        self.leased: set[int] = set()
        self.keyed: dict[Any, int] = {}
        self.home: dict[int, Any] = {}
        self.users: dict[int, list[Turn]] = {}  # for whom it was leased, and whom its key has come to serve as well
        self.closing: set[int] = set()
        self.retired: set[int] = set()  # not to be used again: drained
        self.broken: set[int] = set()
        self.gone: set[int] = set()  # closed or dropped; to be noticed
        self.ended: list[Any] = []  # keys whose threads have ended; to be noticed
        self.vanished = 0  # callers that were in line; to be noticed
        self.closed = False
        self.resize(minconn, maxconn)

    # ---- counts -----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        return len(self.open) + len(self.connects)

    def staying(self) -> int:
        return self.size() - len(self.closing)

    def limit(self) -> float:
        return float("inf") if self.max_overflow is None else self.maxconn + self.max_overflow

    def may_connect(self) -> bool:
        few = self.max_connecting is None or len(self.connects) < self.max_connecting
        return few and not self.closed and self.size() < self.limit()

    def is_full(self) -> bool:
        """As many wait for a connection to come back as may."""
        coming = len(self.connects) + len(self.idle) + max(0, self.limit() - self.size())
        return self.max_waiting is not None and len(self.queue) + self.vanished - coming >= self.max_waiting

    def diverts(self) -> bool:
        """Nobody may pass the queue: somebody waits, the pool is closed, or a connection must go when it is put."""
        wanted = self.maxconn if self.keep_surplus else self.minconn
        return bool(self.closed or self.queue or self.retired or self.size() > wanted)

    # ---- what happens -----------------------------------------------------------------------------------------------

    def arrive(self, turn: Turn) -> None:
        if self.closed:
            turn.answer = "PoolClosed"
        elif turn.key in self.keyed:
            turn.answer = self.share(turn)
        elif self.is_full():
            turn.answer = "TooManyWaiters"
        else:
            self.queue.append(turn)

    def leave(self, turn: Turn) -> None:
        """It waits no longer; what it was given stays with it."""
        if turn in self.queue:
            self.queue.remove(turn)
        self._stop(turn)

    def abandon(self, turn: Turn) -> None:
        """It leaves, and gives back what nobody else uses by now."""
        self.leave(turn)
        users = self.users.get(turn.answer, [])
        if turn in users:
            users.remove(turn)
            if not users:
                self.put(turn.answer)

    def vanish(self, turn: Turn) -> None:
        """It is gone without a word: so is its connection, unless a key has it."""
        if turn in self.queue:
            self.queue.remove(turn)
            self.vanished += 1
        self.drop(turn.answer)

    def drop(self, number: Any) -> None:
        if number in self.leased:
            self.gone.add(number)

    def _stop(self, turn: Turn) -> None:
        if turn.connect in self.connects and not turn.connect.begun:
            self.connects.remove(turn.connect)

    def hurry(self, turn: Turn, deadline: float) -> None:
        """Connect for *turn*, unless it is so already."""
        if turn.answer is None and turn.connect not in self.connects and self.may_connect():
            turn.connect = Connect(turn, deadline)
            self.connects.append(turn.connect)

    def connected(self, connect: Connect, number: int) -> None:
        self.connects.remove(connect)
        self.open.add(number)
        self.idle.append(number)
        if connect.stale:
            self.retired.add(number)

    def failed(self, connect: Connect, error: str) -> None:
        self.connects.remove(connect)
        if connect.owner in self.queue:
            connect.owner.answer = error
            self.queue.remove(connect.owner)

    def put(self, number: int) -> None:
        self.end_lease(number)
        self.idle.append(number)

    def dismiss(self, number: int) -> None:
        """Its holder closes it."""
        self.end_lease(number)
        self.closing.add(number)

    def end_lease(self, number: int) -> None:
        self.leased.discard(number)
        self.users.pop(number, None)
        self.keyed = {key: conn for key, conn in self.keyed.items() if conn != number}

    def drain(self) -> None:
        self.retired |= self.open
        for connect in self.connects:
            connect.stale = True

    def resize(self, minconn: int, maxconn: int) -> None:
        self.minconn, self.maxconn = minconn, maxconn

    def seize(self) -> list[int]:
        doomed = sorted(self.open - self.closing - self.gone)
        for number in doomed:
            self.dismiss(number)
        self.idle.clear()
        return doomed

    # ---- what follows from it ---------------------------------------------------------------------------------------

    def settle(self, now: float, connect_by: float) -> tuple[list[int], list[int]]:
        """Do all that can be done; return what is to be closed, and what ended threads have left."""
        left = self._notice(now)
        before = set(self.closing)
        while self.idle and (self.closed or self.staying() > self.limit()):
            self.closing.add(self.idle.pop(0))
        self.closing |= self.retired.intersection(self.idle)
        self.idle = [conn for conn in self.idle if conn not in self.retired]
        while self.queue and self._serve(self.queue[0]):
            self._stop(self.queue.pop(0))
        for turn in self.queue:
            if len(self.queue) > len(self.connects) + len(left):
                self.hurry(turn, connect_by)
        while self.idle and self.staying() > self.maxconn:
            self.closing.add(self.idle.pop(0))
        while not self.keep_surplus and len(self.idle) > self.minconn:
            self.closing.add(self.idle.pop(0))
        return sorted(self.closing - before), left

    def _notice(self, now: float) -> list[int]:
        for numbers in (self.open, self.leased, self.closing, self.retired, self.gone):
            numbers -= set(self.gone)
        self.connects = [connect for connect in self.connects if not connect.lost]
        left = [self.keyed[key] for key in self.ended if key in self.keyed]
        for number in left:
            self.end_lease(number)
        self.ended.clear()
        self.vanished = 0
        for connect in [connect for connect in self.connects if now >= connect.deadline]:
            self.failed(connect, "PoolTimeout")
        return left

    def _serve(self, turn: Turn) -> bool:
        if self.closed:
            turn.answer = "PoolClosed"
        elif turn.key in self.keyed:
            turn.answer = self.share(turn)
        else:
            turn.answer = self._take(turn.key)
            if turn.answer is not None:
                self.lease(turn.answer, turn)
        return turn.answer is not None

    def _take(self, key: Any) -> int | None:
        while self.idle:
            own = [conn for conn in self.idle if self.at_home and key is not None and self.home.get(conn) == key]
            conn = own[-1] if own else self.idle[0 if self.oldest_first else -1]
            self.idle.remove(conn)
            if conn not in self.broken:
                return conn
            self.closing.add(conn)
        return None

    def lease(self, number: int, turn: Turn) -> None:
        self.users[number] = [turn]
        if turn.key is None:
            self.leased.add(number)
        else:
            self.keyed[turn.key] = number
            self.home[number] = turn.key

    def leaser(self, number: int) -> Turn | None:
        return self.users[number][0] if number in self.users else None

    def share(self, turn: Turn) -> int:
        number = self.keyed[turn.key]
        self.users[number].append(turn)
        return number
