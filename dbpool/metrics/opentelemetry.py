"""instrument(): the metrics that OpenTelemetry's semantic conventions name for pools of database connections.

    instrument(pool, other)  # with the meter provider that is set, or meter_provider=

What a pool has is read from stats() when a reader asks. What takes time is told as it happens, but never by a hit: so
wait_time has those who had to wait, and not those who found a connection idle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable
from weakref import ref

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from dbpool.escaping import escaped
from dbpool.listener import PoolListener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import Meter, MeterProvider

    from dbpool.stats import PoolStats

PREFIX = "db.client.connection."
POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"
GAUGES = {  # name -> unit, what it is, the field of stats()
    "idle.max": ("{connection}", "The most connections that may be idle", "maxconn"),
    "idle.min": ("{connection}", "The connections that are kept open", "minconn"),
    "max": ("{connection}", "The most connections that may be open", "maxconn"),
    "pending_requests": ("{request}", "Callers who wait for a connection", "waiting"),
}
SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # the limits of the histograms' buckets


def instrument(*pools: Any, meter_provider: MeterProvider | None = None, use_time: bool = False) -> None:
    """Have the metrics of *pools* be there for whoever reads those of *meter_provider* (default: the global one).

    *use_time*: also how long each connection was held. Every return is then told of, and none takes the quick way.
    The pools are known weakly; metrics end when they are closed. Raises TypeError for what is no pool of connections.
    """
    for pool in pools:
        if not hasattr(pool, "listen"):
            raise TypeError(f"pools must be connection pools, and a {type(pool).__name__} is none")
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = provider.get_meter("dbpool")
    _observe(meter, [ref(pool) for pool in pools])
    listener = (_Uses if use_time else _Times)(meter)
    for pool in pools:
        pool.listen(listener)


def _observe(meter: Meter, known: list[Any]) -> None:
    """Make the instruments that are read from stats()."""

    def each(read: Callable[[Any, PoolStats], Iterable[Observation]]) -> list[Callable[..., Iterable[Observation]]]:
        def callback(options: Any) -> Iterable[Observation]:
            alive = [pool for pool in [pool() for pool in known] if pool is not None and not pool.closed]
            return [seen for pool in alive for seen in read(pool, pool.stats())]

        return [callback]

    def one(field: str) -> Callable[[Any, PoolStats], Iterable[Observation]]:
        return lambda _, stats: [Observation(getattr(stats, field), {POOL: escaped(stats.name)})]

    def states(pool: Any, stats: PoolStats) -> Iterable[Observation]:
        name = escaped(stats.name)
        return [Observation(getattr(stats, state), {POOL: name, STATE: state}) for state in ("idle", "used")]

    updown = meter.create_observable_up_down_counter
    updown(f"{PREFIX}count", each(states), "{connection}", "Connections, by state")
    for name, (unit, text, field) in GAUGES.items():
        updown(f"{PREFIX}{name}", each(_most_idle if name == "idle.max" else one(field)), unit, text)
    timeouts = "Callers who got nothing in time"
    meter.create_observable_counter(f"{PREFIX}timeouts", each(one("timeouts")), "{timeout}", timeouts)


def _most_idle(pool: Any, stats: PoolStats) -> Iterable[Observation]:
    most = stats.minconn if pool._config.idle_timeout == 0 else stats.maxconn
    return [Observation(most, {POOL: escaped(stats.name)})]


class _Times(PoolListener):
    """Fills the histograms of what takes the slow way anyway."""

    _hears_hits = False

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, text: str) -> Any:
            return meter.create_histogram(
                f"{PREFIX}{name}", "s", text, explicit_bucket_boundaries_advisory=list(SECONDS)
            )

        self._create = histogram("create_time", "How long it took to open a connection")
        self._wait = histogram("wait_time", "How long callers waited who had to, and were served")
        self._use = histogram("use_time", "From getting a connection to giving it back")

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        self._create.record(seconds, {POOL: escaped(pool.name)})

    def waited(self, pool: Any, seconds: float) -> None:
        self._wait.record(seconds, {POOL: escaped(pool.name)})


class _Uses(_Times):
    """Those, and how long each connection was held."""

    _hears_hits = True

    def released(self, pool: Any, conn: Any, seconds: float) -> None:
        self._use.record(seconds, {POOL: escaped(pool.name)})
