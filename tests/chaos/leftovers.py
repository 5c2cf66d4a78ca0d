"""What is left when all is over: slots, threads, tasks, descriptors, backends and memory."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .scene import MAXCONN, within
from .traced import LATE

if TYPE_CHECKING:
    from .scene import Scene

ON_TIME = 5.0  # seconds for each lease, once nothing is wrong any more
NO_TIME = 0.2  # seconds that one more than maxconn waits in vain
EVERYBODY = "chaos-%"


class Belongings(NamedTuple):
    """What this process has."""

    threads: int
    tasks: int  # in the loop, if there is one
    descriptors: int
    megabytes: float  # resident

    @classmethod
    def now(cls, scene: Scene) -> Belongings:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return cls(
            len(os.listdir("/proc/self/task")),
            scene.count_tasks(),
            len(os.listdir("/proc/self/fd")),
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        )


def settled(scene: Scene, before: Belongings) -> Belongings:
    """Return what there is once all that ends by itself has ended, or after a while."""

    def is_settled() -> bool:
        there = Belongings.now(scene)
        return all(is_there <= was for is_there, was in zip(there[:3], before))

    within(LATE, lambda: not scene.proxy.links and is_settled())
    gc.collect()
    return Belongings.now(scene)


def warm_up(scene: Scene) -> Belongings:
    """Use what a process has once, such as the housekeeper's descriptors; return what there is then."""
    threads = Belongings.now(scene).threads
    scene.open_pool()
    scene.pool.putconn(scene.pool.getconn())
    scene.pool.close()
    within(LATE, lambda: not scene.proxy.links and Belongings.now(scene).threads <= threads)
    return Belongings.now(scene)


def take_all(scene: Scene) -> int:
    """Lease maxconn connections, and see that each answers, and that there is not one more; return how many it was."""
    pool, conns = scene.pool, []
    while len(conns) < MAXCONN:
        began = time.monotonic()
        try:
            conn = pool.getconn(timeout=ON_TIME)
            scene.try_out(conn)
        except scene.error as error:
            scene.accuse("lost slot", f"lease {len(conns) + 1} of {MAXCONN}, {time.monotonic() - began:.1f} s: {error}")
            break
        conns.append(conn)
    try:
        conns.append(pool.getconn(timeout=NO_TIME))
        scene.accuse("over maxconn", f"{len(conns)} leased at the end")
    except scene.error:
        pass
    taken = len(conns)
    for conn in conns:
        pool.putconn(conn)
    if len({id(conn) for conn in conns}) != len(conns):
        scene.accuse("two holders", "the same connection was leased twice at the end")
    return taken


def balance(scene: Scene) -> Any:
    """See that the pool's books, our own and the server's list say the same; return the pool's."""

    def agree() -> bool:
        stats = scene.pool.stats()
        return (
            stats.used == stats.connecting == stats.closing == stats.waiting == 0
            and stats.opened - sum(stats.discards.values()) == stats.size == stats.idle
            and set(scene.backends()) == scene.census.open_pids()
            and len(scene.census.open_pids()) == stats.size
        )

    if not within(LATE, agree):
        text = f"{scene.pool.stats()}, open {scene.census.open_pids()}, the server's {scene.backends()}"
        scene.accuse("accounts differ", text)
    stats = scene.pool.stats()
    dropped = stats.discards.get("dropped", 0)
    if dropped and not scene.may_drop:
        scene.accuse("dropped", f"{dropped} connections went to nobody, until the collector found them")
    return stats


def backends_left(scene: Scene) -> int:
    """Return how many backends of any of our pools the server still lists after a while."""
    within(LATE, lambda: not scene.backends(EVERYBODY))
    return len(scene.backends(EVERYBODY))
