"""Trouble: an exhausted pool, a leak, a database that is down; each for real, and put right again."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Callable

from dbpool.demo.bank import Bank, PostgresBank, SqliteBank
from dbpool.demo.relay import Relay, server_of
from dbpool.demo.visitors import Visitors, transfer

if TYPE_CHECKING:
    from random import Random

    from dbpool import ThreadedConnectionPool

CALM, SCENE = 12.0, 15.0  # seconds
HOGS, HOLD = 3, 1.5  # so many threads for each connection, and for how long one holds it
FORGETS = 4.0  # seconds between two connections that are forgotten


class Outage:
    """Takes the database away, and brings it back."""

    def begin(self, pools: list[ThreadedConnectionPool[Any]]) -> None:
        """Take it away."""

    def end(self) -> None:
        """Bring it back."""


class FileOutage(Outage):
    """The folder of the sqlite3 file is somewhere else; what is open of the file is closed."""

    text = "the folder of the database file is moved away"

    def __init__(self, bank: SqliteBank) -> None:
        self._here, self._away = bank.folder, bank.folder.with_name("away")

    def begin(self, pools: list[ThreadedConnectionPool[Any]]) -> None:
        self._here.rename(self._away)
        for pool in pools:
            pool.drain()

    def end(self) -> None:
        with suppress(FileNotFoundError):
            self._away.rename(self._here)


class RelayOutage(Outage):
    """The pools reach the server through a relay, which can be put down and frozen: the server is not ours to stop."""

    text = "the server refuses connections, and has cut those that there were"

    def __init__(self, bank: PostgresBank) -> None:
        with closing(bank.connect()) as conn:
            self._relay = Relay(server_of(conn))
        bank.route = {"hostaddr": "127.0.0.1", "port": self._relay.port}

    def begin(self, pools: list[ThreadedConnectionPool[Any]]) -> None:
        self._relay.down()

    def end(self) -> None:
        self._relay.thaw()
        self._relay.down()
        self._relay.up()

    def freeze(self) -> None:
        """Have the server answer nothing."""
        self._relay.freeze()

    def thaw(self) -> None:
        """Have it answer again."""
        self._relay.thaw()


def outage_of(bank: Bank) -> Outage:
    """Return how the database of *bank* is taken away; to be called before its pools are made."""
    return RelayOutage(bank) if isinstance(bank, PostgresBank) else FileOutage(bank)  # type: ignore[arg-type]


class Trouble:
    """One scene after the other, with calm between them, on a thread until stop()."""

    def __init__(
        self, pool: ThreadedConnectionPool[Any], others: list[ThreadedConnectionPool[Any]], bank: Bank, outage: Outage,
        say: Callable[[str], None], scene: float = SCENE, calm: float = CALM,
    ) -> None:  # fmt: skip
        self._pool, self._pools, self._bank, self._outage = pool, [pool, *others], bank, outage
        self._say, self._scene, self._calm = say, scene, calm
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trouble", daemon=True)

    def start(self) -> Trouble:
        """Begin, calmly."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the scene that is on; all is as it was."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        scenes = [self.exhaustion, self.leak, self.down]
        if isinstance(self._outage, RelayOutage):
            scenes.append(self.frozen)
        while True:
            for scene in scenes:
                if self._ended.wait(self._calm):
                    return
                scene()
                self._say("over")

    def exhaustion(self) -> None:
        """More threads than connections, each of which holds its own for long."""
        number = HOGS * self._pool.maxconn
        self._say(f"exhaustion: {number} threads hold a connection for {HOLD:g} s each, over and over")

        def hold(random: Random) -> None:
            with self._pool.connection():
                time.sleep(HOLD)

        hogs = Visitors("hog", number, hold, 0.0, self._bank.error).start()
        self._ended.wait(self._scene)
        hogs.stop()

    def leak(self) -> None:
        """A thread drops connections without putconn, and keeps one for too long."""
        self._say("leak: a thread keeps a connection and does nothing, and drops others without putconn")
        forgetful = threading.Thread(target=self._forget, name="forgetful", daemon=True)
        forgetful.start()
        forgetful.join()

    def _forget(self) -> None:
        kept = None
        ends = time.monotonic() + self._scene
        while time.monotonic() < ends and not self._ended.is_set():
            with suppress(self._bank.error):
                kept = kept or self._pool.getconn()
                self._pool.getconn()
                gc.collect()  # a connection of sqlite3's is in a circle with its statements
            self._dawdle()
        if kept is not None:
            self._pool.putconn(kept)

    def _dawdle(self) -> None:
        ends = time.monotonic() + FORGETS
        while time.monotonic() < ends and not self._ended.is_set():
            time.sleep(0.1)

    def down(self) -> None:
        """The database is not there."""
        self._say(f"database down: {getattr(self._outage, 'text', '')}")
        self._outage.begin(self._pools)
        self._ended.wait(self._scene)
        self._outage.end()

    def frozen(self) -> None:
        """The database is there and says nothing, and there are more callers than connections."""
        self._say("database frozen: the server keeps all connections, and answers nothing")
        visit = transfer(self._pool, self._bank, 0.01)
        crowd = Visitors("caller", 2 * self._pool.maxconn, visit, 0.1, self._bank.error)
        crowd.start()
        self._outage.freeze()  # type: ignore[attr-defined]
        self._ended.wait(self._scene)
        crowd.ended.set()
        self._outage.thaw()  # type: ignore[attr-defined]
        crowd.stop()
