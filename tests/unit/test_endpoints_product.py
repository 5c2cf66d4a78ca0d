"""EndpointPool: every event in every state of the endpoint asked and of the total; what must hold after each."""

from __future__ import annotations

import pytest
from fakes import OperationalError

from dbpool import PoolClosed, PoolError, PoolExhausted

from .places import touch
from .threads import Caller, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")
TOTAL = 2
ALLOWED = (PoolError, OperationalError)  # the refusals that a caller may be told


class Scene:
    """A pool whose endpoint "asked" is in some state, and whose total is in another."""

    def __init__(self, pool, places):
        self.pool, self.places = pool, places
        self.shell = getattr(pool, "_shell", pool)
        self.held, self.callers = [], []

    def lease(self, endpoint):
        self.held.append(self.pool.getconn(endpoint, timeout=0))

    def begin(self, work, *args, **how):
        self.callers.append(Caller(work, *args, **how))

    def hold_up(self, conn, method):
        """Have a call of it wait until the end."""
        real = getattr(conn, method)
        setattr(conn, method, lambda: (self.places.gate.wait(30), real()))

    def put_closing(self, conn):
        """Its close is under way."""
        self.hold_up(conn, "close")
        self.places.gate.clear()
        self.begin(self.pool.putconn, conn, close=True)
        eventually(lambda: self.shell.total.closing)

    def connecting(self, endpoint):
        self.places.hang(endpoint)
        self.begin(self.pool.getconn, endpoint, timeout=5)
        eventually(lambda: self.places.hangs(endpoint))

    def room(self):
        return self.pool.total.used < TOTAL

    def mine(self):
        return next((conn for conn in self.held if conn.endpoint == "asked"), None)

    def end(self):
        """Let all that was held up go on, and everybody give back what they got."""
        self.places.gate.set()
        self.places.release()
        self.places.down.clear()
        self.put_all()
        for caller in self.callers:
            try:
                conn = caller.result()
            except ALLOWED:
                continue
            if conn is not None:
                self.held.append(conn)
            self.put_all()

    def put_all(self):
        while self.held:
            try:
                self.pool.putconn(self.held.pop())
            except PoolError:  # closed meanwhile
                assert self.pool.closed


# ---- states of the endpoint ------------------------------------------------------------------------------------


def unknown(scene):
    pass


def idle(scene):
    touch(scene.pool, "asked")


def leased(scene):
    scene.lease("asked")


def connecting(scene):
    scene.connecting("asked")


def refused(scene):
    scene.places.down = {"asked"}
    with pytest.raises(OperationalError):
        scene.pool.getconn("asked", timeout=0)


def draining(scene):
    scene.lease("asked")
    scene.pool.drain("asked")


def forgotten(scene):
    touch(scene.pool, "asked")
    old = scene.shell._pools["asked"]
    scene.pool.putconn(scene.pool.getconn("asked"), close=True)
    eventually(lambda: "asked" not in scene.pool.endpoints)
    assert old.closed


def closed(scene):
    touch(scene.pool, "asked")
    scene.pool.close(timeout=0)


ENDPOINT = [unknown, idle, leased, connecting, refused, draining, forgotten, closed]

# ---- states of the total: what the other endpoints have ----------------------------------------------------------


def roomy(scene):
    pass


def idle_elsewhere(scene):
    fill(scene, lambda endpoint: touch(scene.pool, endpoint))


def all_leased(scene):
    fill(scene, scene.lease)


def one_closing(scene):
    all_leased(scene)
    elsewhere = [conn for conn in scene.held if conn.endpoint != "asked"]
    if elsewhere:
        scene.held.remove(elsewhere[0])
        scene.put_closing(elsewhere[0])


def one_connecting_elsewhere(scene):
    if scene.room():
        scene.connecting("slow")
    all_leased(scene)


def fill(scene, use):
    for number in range(TOTAL):
        if scene.room():
            use(f"other {number}")


TOTALS = [roomy, idle_elsewhere, all_leased, one_closing, one_connecting_elsewhere]

# ---- events ----------------------------------------------------------------------------------------------------


def get(scene):
    scene.begin(scene.pool.getconn, "asked", timeout=5)
    caller = scene.callers[-1]
    eventually(lambda: caller.ended or "asked" in scene.pool.waiters() or scene.places.hangs("asked"))


def get_at_once(scene):
    """It may connect, or on a loop wait for a close that is under way, and that may take as long as it takes."""
    scene.begin(scene.pool.getconn, "asked", timeout=0)
    caller = scene.callers[-1]
    eventually(lambda: caller.ended or scene.places.hangs("asked") or scene.shell.total.closing)


def get_in_vain(scene):
    try:
        scene.held.append(scene.pool.getconn("asked", timeout=0.02))
    except ALLOWED:
        pass


def put(scene, **how):
    conn = scene.mine()
    if conn is None:
        with pytest.raises(PoolError):
            scene.pool.putconn(object(), **how)
        return
    scene.held.remove(conn)
    scene.pool.putconn(conn, **how)


def put_close(scene):
    put(scene, close=True)


def drop(scene):
    conn = scene.mine()
    if conn is not None:
        scene.held.remove(conn)
        scene.places.made.remove(conn)
    conn = None


def drain(scene):
    scene.pool.drain()


def resize(scene):
    scene.pool.resize(0, 1)


def close(scene):
    scene.begin(scene.pool.close, timeout=0.05)
    eventually(lambda: scene.pool.closed)


def sweep(scene):
    """As check() does at each endpoint; it pings."""
    scene.begin(lambda: scene.pool.check().clear())


EVENTS = [get, get_at_once, get_in_vain, put, put_close, drop, drain, resize, close, sweep]


def holds(scene):
    """At any time: the total is kept and counted, and each connection is to its endpoint."""
    total, members = scene.pool.total, list(scene.shell._pools.values())
    opened = [conn for conn in scene.places.made if not conn.closed]
    assert len(opened) <= TOTAL
    assert total.used <= TOTAL
    for conn in scene.held:
        owner = next((each for each in members if id(conn) in each._entries), None)
        assert owner is None or owner.endpoint == conn.endpoint


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("event", EVENTS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("total", TOTALS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("state", ENDPOINT, ids=lambda each: each.__name__)
def test_after_every_event_in_every_state_no_slot_is_lost(many, places, heartbeat, state, total, event):
    scene = Scene(many(total=TOTAL, connect_timeout=20, check_timeout=20, reset="none"), places)
    state(scene)
    if not scene.pool.closed:
        total(scene)
    holds(scene)
    try:
        event(scene)
        holds(scene)
    except PoolClosed:
        assert scene.pool.closed
    finally:
        scene.end()
    all_is_well(scene)


def all_is_well(scene):
    """Once everybody is gone, each slot serves each endpoint, and those with nothing are forgotten."""
    pool, total = scene.pool, scene.pool.total
    if pool.closed:
        eventually(lambda: not total.used and all(conn.closed for conn in scene.places.made))
        with pytest.raises(PoolClosed):
            pool.getconn("asked", timeout=0)
        return
    assert not pool.waiters()
    for endpoint in ("asked", "another"):
        conns = [pool.getconn(endpoint, timeout=5) for _ in range(pool.maxconn)]
        assert {conn.endpoint for conn in conns} == {endpoint}
        with pytest.raises(PoolExhausted):
            pool.getconn(endpoint, timeout=0)
        for conn in conns:
            pool.putconn(conn)
    eventually(lambda: all(stats.size for stats in pool.stats().values()))
    assert total.used == sum(stats.size for stats in pool.stats().values()) <= TOTAL
    assert not total._wishing
