"""The kinds of faults: each strikes, is healed, and says since when service is possible again."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .scene import MAXCONN, MINCONN, is_gone, within

if TYPE_CHECKING:
    from .load import Load
    from .scene import Scene

OUTAGE = 1.0  # seconds
SHORT = (1.0, 1.5)  # seconds
LONG = (3.0, 3.5)  # longer than a put on a dead connection may take, so that one that is not cut off is told of
CHILDS_TURNS = 20
CHILDS_PATIENCE = 60.0  # seconds


class Healed(NamedTuple):
    """Since when service was possible again, and what had happened."""

    at: float
    text: str


Fault = Callable[["Scene", "Load"], Healed]
KINDS: dict[str, Fault] = {}  # that every pool is to bear


def kind(strike: Fault) -> Fault:
    """Register a kind of fault by the name of its function."""
    KINDS[strike.__name__.replace("_", " ")] = strike
    return strike


def now_healed(text: str) -> Healed:
    return Healed(time.monotonic(), text)


def some(scene: Scene, pids: list[int], most: int) -> list[int]:
    return scene.rng.sample(pids, min(len(pids), scene.rng.randint(1, most)))


def each(pids: list[int], act: Callable[[int], None]) -> None:
    """Do it to each backend; one may have ended since it was listed."""
    for pid in pids:
        with suppress(ProcessLookupError):
            act(pid)


@kind
def kill(scene: Scene, load: Load) -> Healed:
    """Backends are ended by an administrator: all or some."""
    pids = scene.backends()
    if scene.rng.random() < 0.5:
        pids = some(scene, pids, MAXCONN)
    scene.ask("SELECT pg_terminate_backend(pid) FROM unnest(%s::integer[]) AS pid", pids)
    within(30, lambda: all(map(is_gone, pids)))
    return now_healed(f"{len(pids)} backends")


@kind
def freeze(scene: Scene, load: Load) -> Healed:
    """Backends stand still for longer than check_timeout, and go on."""
    pids = some(scene, scene.backends(), MAXCONN)
    scene.deaf = True
    each(pids, scene.cluster.pause)
    time.sleep(scene.rng.uniform(*LONG))
    each(pids, scene.cluster.resume)
    return hearing(scene, now_healed(f"{len(pids)} backends"))


def hearing(scene: Scene, healed: Healed) -> Healed:
    """Backends can notice from now on that their client is gone."""
    scene.deaf, scene.hears_since = False, healed.at
    return healed


@kind
def restart(scene: Scene, load: Load) -> Healed:
    """The server is stopped in order, and started."""
    began = time.monotonic()
    scene.cluster.stop("fast")
    scene.cluster.start()
    return now_healed(f"{time.monotonic() - began:.1f} s away")


@kind
def crash(scene: Scene, load: Load) -> Healed:
    """The server is stopped at once, and is away for a while."""
    began = time.monotonic()
    scene.cluster.stop("immediate")
    time.sleep(OUTAGE * scene.rng.uniform(0.8, 1.2))
    scene.cluster.start()
    return now_healed(f"{time.monotonic() - began:.1f} s away")


@kind
def reset(scene: Scene, load: Load) -> Healed:
    """All connections that go through the proxy get a RST."""
    scene.proxy.reset()
    return now_healed("a RST to all")


@kind
def black_hole(scene: Scene, load: Load) -> Healed:
    """The network swallows all for longer than check_timeout; once it is back, it knows none of the old connections."""
    scene.deaf = True
    scene.proxy.black_hole()
    time.sleep(scene.rng.uniform(*LONG))
    scene.proxy.heal()
    scene.proxy._do(lambda link: link.reset() if link.swallows else None)
    return hearing(scene, now_healed("nothing passed"))


@kind
def stall(scene: Scene, load: Load) -> Healed:
    """The network holds everything back for longer than check_timeout, and then passes it on."""
    scene.deaf = True
    scene.proxy.stall()
    time.sleep(scene.rng.uniform(*SHORT))
    scene.proxy.resume()
    return hearing(scene, now_healed("all is passed on"))


@kind
def standstill(scene: Scene, load: Load) -> Healed:
    """Backends end, and new connections hang: the postmaster stands still, and goes on."""
    pids = some(scene, scene.backends(), MAXCONN)
    scene.cluster.pause()
    each(pids, lambda pid: os.kill(pid, signal.SIGTERM))
    time.sleep(scene.rng.uniform(*SHORT))
    scene.cluster.resume()
    return now_healed(f"{len(pids)} backends")


@kind
def fork(scene: Scene, load: Load) -> Healed:
    """A child uses the pool, and ends without a farewell; half of them close the pool before."""
    closes = scene.rng.random() < 0.5
    seed = f"{scene.seed} child {scene.rng.random()}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which are the point here
        pid = os.fork()
    if not pid:
        be_child(scene, load, seed, closes)
    ended: list[int] = []  # its wait status
    if not within(CHILDS_PATIENCE, lambda: ended or has_ended(pid, ended)):
        os.kill(pid, signal.SIGKILL)
        ended.append(os.waitpid(pid, 0)[1])
    if ended != [0]:
        scene.accuse("child failed", f"wait status {ended}")
    return now_healed("a child that closed its pool" if closes else "a child")


def has_ended(pid: int, status: list[int]) -> bool:
    ended, how = os.waitpid(pid, os.WNOHANG)
    status += [how] if ended else []
    return bool(ended)


def be_child(scene: Scene, load: Load, seed: str, closes: bool) -> None:
    """Do what the load does, write the history of it, and end. Never returns."""
    status = 1
    try:
        scene.journal.begin_anew()
        scene.journal.note("invoke", "resize", data=scene.pool.maxconn)
        scene.journal.note("ok", "resize", data=scene.pool.maxconn)
        load.use_in_child(seed, CHILDS_TURNS, closes)
        scene.journal.flush()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


@kind
def resize(scene: Scene, load: Load) -> Healed:
    """The pool becomes smaller, at the server too, and large again."""
    small = scene.rng.randint(1, MAXCONN // 2)
    began = time.monotonic()
    scene.resize(min(MINCONN, small), small)
    if not within(10, lambda: len(scene.census.open_pids()) <= small and len(scene.backends()) <= small):
        scene.accuse("over maxconn", f"resized to {small}, has {len(scene.census.open_pids())} connections 10 s later")
    shrunk = time.monotonic() - began
    time.sleep(scene.rng.uniform(0.1, 0.4))
    scene.resize(MINCONN, MAXCONN)
    return now_healed(f"to {small} within {shrunk:.2f} s")


@kind
def drain(scene: Scene, load: Load) -> Healed:
    """Every connection is to be replaced."""
    scene.pool.drain()
    return now_healed("all")


def interrupt(scene: Scene, load: Load) -> Healed:
    """KeyboardInterrupt strikes in threads of the load, wherever they are."""
    times = scene.rng.randint(5, 15)
    for _ in range(times):
        number = scene.rng.randrange(len(load.workers))
        worker, thread = load.workers[number], load.threads[number]
        before = worker.interrupts
        raise_in(thread.ident)
        if not within(30, lambda: worker.interrupts > before and worker.acknowledged == worker.interrupts):  # noqa: B023
            scene.accuse("interrupt lost", f"thread {thread.name} has not seen its KeyboardInterrupt after 30 s")
    return now_healed(f"{times} times")


def raise_in(ident: Any) -> None:
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_exception(ctypes.c_ulong(ident), ctypes.py_object(KeyboardInterrupt)) == 1
