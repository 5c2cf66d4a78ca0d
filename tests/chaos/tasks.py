"""Load: tasks that do what the load's threads do; each turn is a task, and may be cancelled anywhere."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from .load import FRAMES, HOLD, IMPATIENT, THREADS, Load, Worker, text_of
from .loop import WORKER
from .scene import CHECK_TIMEOUT, TIMEOUT, within

if TYPE_CHECKING:
    from .loop import LoopScene

# How a lease is used, and how often. "hurried" gives up getconn by wait_for, "timed" all of the turn; "proxy" is given
# what connect() returns, and closes it.
MANNERS = {
    "commit": 35, "block": 15, "abandon": 12, "error": 5, "close": 3, "autocommit": 4, "impatient": 6, "hurried": 8,
    "timed": 7, "proxy": 5,
}  # fmt: skip
TURN = (0.0, 0.08)  # seconds for a turn that is timed
AT_ONCE = 2.0  # seconds, on a busy machine, in which who is cancelled in a call of the pool's has left it


class TaskWorker(Worker):
    """One worker's tasks, one after the other."""

    manners = MANNERS
    scene: LoopScene

    def __init__(self, scene: Any, seed: str, number: int) -> None:
        super().__init__(scene, seed)
        self.driver = scene.driver
        self.task: asyncio.Task[None] | None = None  # the turn that is under way
        self.turns = 0
        self.cancelled_at: float | None = None  # by us; not by a wait_for
        self.context: Context = copy_context()
        self.context.run(WORKER.set, number)

    async def turn(self) -> None:  # type: ignore[override]
        """Lease a connection, use it, give it back."""
        call, manner = next(self.scene.leases), self.choose()
        if manner == "timed":
            await self._in_time(asyncio.ensure_future(self._use(call, "commit")))
        else:
            await (self._block(call) if manner == "block" else self._use(call, manner))

    async def _in_time(self, work: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait_for(work, self.rng.uniform(*TURN))
        except asyncio.TimeoutError:
            self.journal.note("note", "interrupt")
        finally:  # cancelled while it waits for the end of what it has cancelled, wait_for leaves that behind
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({work})

    async def _use(self, call: int, manner: str) -> None:
        timeout = self.rng.choice(IMPATIENT) if manner in ("impatient", "hurried") else TIMEOUT
        self.journal.note("invoke", "get", call, data=timeout)
        try:
            getting = self._get(TIMEOUT if manner == "hurried" else timeout, manner == "proxy")
            conn = await (asyncio.wait_for(getting, timeout) if manner == "hurried" else getting)
        except Exception as error:
            self.journal.note("fail", "get", call, data=text_of(error))
            return
        try:
            leased = self._leased(call, conn)
            await self._transaction(call, conn, manner, leased)
        finally:
            await self._put(call, conn, manner)

    async def _get(self, timeout: float, proxy: bool) -> Any:
        self._stand()
        pool = self.scene.awaited
        try:
            return await (pool.connect(timeout=timeout) if proxy else pool.getconn(timeout=timeout))
        except asyncio.CancelledError:
            self._expect_at_once("getconn")
            raise

    def _stand(self) -> None:
        """Tell the sampler whose task will stand in line: perhaps one that a wait_for has made."""
        task = asyncio.current_task()
        assert task is not None
        self.scene.workers_of[task] = WORKER.get()

    def _expect_at_once(self, where: str) -> None:
        began, self.cancelled_at = self.cancelled_at, None
        took = 0.0 if began is None else time.monotonic() - began
        if took > AT_ONCE:
            self.scene.accuse("cancelled late", f"{where} ended {took:.1f} s after it was cancelled")

    def left(self, conn: Any) -> str | None:
        found: str | None = self.driver.left(conn)
        return found

    async def _put(self, call: int, conn: Any, manner: str) -> None:  # type: ignore[override]
        self.journal.note("invoke", "put", call, data=2 * CHECK_TIMEOUT)
        try:
            await (conn.close() if manner == "proxy" else self.scene.awaited.putconn(conn, close=manner == "close"))
        except asyncio.CancelledError:
            self._expect_at_once("putconn")
            raise
        except Exception as error:
            self.journal.note("fail", "put", call, data=text_of(error))
        else:
            self.journal.note("ok", "put", call)

    async def _transaction(self, call: int, conn: Any, manner: str, leased: float) -> None:  # type: ignore[override]
        outcome = "fail"
        try:
            await self._write(call, conn)
            if manner == "error":
                await self.driver.fail(conn)
            elif manner != "abandon":
                outcome = "unknown"
                await self.driver.commit(conn)
                outcome = "ok"
                if manner == "autocommit":
                    await self.driver.leave_autocommit(conn)  # for the pool to set back
        except self.driver.error as error:
            self.errors[text_of(error)] += 1
        self._tell(call, conn, outcome, leased)

    async def _write(self, call: int, conn: Any) -> None:  # type: ignore[override]
        token = f"{os.getpid()}.{conn.pid}.{call}"
        self.journal.note("invoke", "write", call, data=token)
        await self.driver.write(conn, token)
        work, idle = sorted((0, HOLD), key=lambda _: self.rng.random())
        await asyncio.sleep(self.rng.uniform(0, work))
        self.journal.note("ok", "read", call, data=await self.driver.read(conn, token))
        await asyncio.sleep(self.rng.uniform(0, idle))

    async def _block(self, call: int) -> None:  # type: ignore[override]
        """The same in an async with block, which commits and gives back by itself."""
        conn, leased, outcome = None, 0.0, "fail"
        self.journal.note("invoke", "get", call, data=TIMEOUT)
        self._stand()
        try:
            async with self.scene.awaited.connection() as conn:
                leased = self._leased(call, conn)
                try:
                    await self._write(call, conn)
                finally:
                    # It commits first, which may take as long as the server likes.
                    self.journal.note("invoke", "put", call)
                outcome = "unknown"
            outcome = "ok"
        except self.driver.error as error:
            if conn is None:
                self.journal.note("fail", "get", call, data=text_of(error))
                return
            self.errors[text_of(error)] += 1
        self.journal.note("ok", "put", call)
        self._tell(call, conn, outcome, leased)


class TaskLoad(Load):
    """The workers' tasks: when one has ended the next begins, until they are told to stop. There are no others."""

    def __init__(self, scene: LoopScene) -> None:
        self._scene: LoopScene = scene  # type: ignore[assignment]
        self.workers = [
            TaskWorker(scene, f"{scene.seed} worker {number}", number) for number in range(1, THREADS + 1)
        ]  # fmt: skip
        self._stopped = False

    def start(self) -> None:
        for worker in self.workers:
            self._scene.call_in_loop(worker.context.run, self._begin, worker)

    def _begin(self, worker: TaskWorker) -> None:
        """Begin a turn; in the worker's context, which its task and what is called after it take over."""
        worker.turns += 1
        worker.task = self._scene.loop.create_task(worker.turn())
        worker.task.add_done_callback(partial(self._ended, worker))

    def _ended(self, worker: TaskWorker, task: asyncio.Task[None]) -> None:
        worker.cancelled_at = worker.task = None
        if task.cancelled():
            worker.journal.note("note", "interrupt")
            worker.interrupts += 1
        elif task.exception() is not None:
            worker.journal.note("note", "crash", data=text_of(task.exception()))
        if not self._stopped:
            self._begin(worker)

    def cancel(self, number: int) -> None:
        """Cancel what a worker does now; in the loop."""
        worker = self.workers[number]
        if worker.task is not None:
            worker.cancelled_at = time.monotonic()
            worker.task.cancel()

    def stop(self, patience: float) -> None:
        """Have each end its turn."""
        self._stopped = True
        within(patience, lambda: not any(worker.task for worker in self.workers))
        for number, worker in enumerate(self.workers, 1):
            if worker.task is not None:
                text = f"task {number} did not stop within {patience:g} s: {standing(worker.task)}"
                self._scene.accuse("call never ended", text)

    def use_in_child(self, seed: str, turns: int, closes: bool) -> None:
        """Do what the load does in a loop of the child's own; end it in order, or the process in the midst of it."""
        asyncio.run(self._child(TaskWorker(self._scene, seed, 1), turns, closes))

    async def _child(self, worker: TaskWorker, turns: int, closes: bool) -> None:
        WORKER.set(1)
        for _ in range(turns):
            await worker.turn()
        if closes:
            await self._scene.awaited.close(timeout=5)
        elif worker.rng.random() < 0.5:
            self._scene.journal.flush()
            os._exit(0)


def standing(task: asyncio.Task[Any]) -> str:
    """Return where a task stands, innermost first."""
    frames, awaited = [], task.get_coro()
    while getattr(awaited, "cr_frame", None) is not None:
        frames.append(awaited.cr_frame)
        awaited = awaited.cr_await
    return " <- ".join(f"{frame.f_code.co_name}:{frame.f_lineno}" for frame in frames[: -FRAMES - 1 : -1])
