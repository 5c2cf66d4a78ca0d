"""Settings: a pool's sizes and options, where each comes from, and what is to be said of them. No secret is shown."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from dbpool.advice import Deployment, Facts, Load, lint, size_by_load
from dbpool.escaping import escaped
from dbpool.limiter import Limiter

if TYPE_CHECKING:
    from dbpool.history import History
    from dbpool.stats import PoolStats

SHORTEST = 30.0  # seconds of observation before there is any advice
HOLDS = 10.0  # seconds for which an advice will do: it takes all rows of the history
SIZES = ("minconn", "maxconn")


class Settings:
    """What is said of one pool's options; made anew only when it can have changed."""

    def __init__(self) -> None:
        self._of: Any = None
        self._told: dict[str, Any] = {}
        self._until = float("-inf")
        self._advice: dict[str, Any] | None = None

    def told(self, pool: Any, stats: PoolStats, driver: str | None, history: History | None) -> dict[str, Any]:
        """Return the options of *pool*, the findings on them, and the advice on its size."""
        of = (pool._config, stats.minconn, stats.maxconn, driver)
        if self._of is None or self._of[0] is not of[0] or self._of[1:] != of[1:]:
            self._told, self._of, self._until = _told(*of), of, float("-inf")
        now = monotonic()
        if now >= self._until:
            self._advice, self._until = advice(history, stats.maxconn), now + HOLDS
        return {**self._told, "advice": self._advice}


def _told(config: Any, minconn: int, maxconn: int, driver: str | None) -> dict[str, Any]:
    sizes = [
        {"name": name, "value": str(value), "source": "given"} for name, value in zip(SIZES, (minconn, maxconn))
    ]  # fmt: skip
    rows = [
        {"name": name, "value": shown(getattr(config, name)), "source": config.source(name)}
        for name in config.__slots__
    ]
    found = lint(config, minconn, maxconn, Deployment(), Facts(driver=driver))
    return {"config": [*sizes, *rows], "lint": [finding._asdict() for finding in found]}


def shown(value: Any) -> str:
    """Return *value* as it may be shown: of an object of the program's only what it is called."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, Limiter):
        return f"at most {value.limit} in all pools that share it"
    name = getattr(value, "__qualname__", None)
    return escaped(f"{value.__module__}.{name}" if isinstance(name, str) else f"a {type(value).__name__}")


def advice(history: History | None, maxconn: int) -> dict[str, Any] | None:
    """Return the advice on the size, by what was observed; None if that is too little."""
    if history is None or history.span() < SHORTEST:
        return None
    used, waiting = history.series("used"), history.series("waiting")
    load = Load(
        seconds=used[-1][0] - used[0][0],
        leases=round(history.growth("leases")),
        used=sum(value for _, value in used) / len(used),
        waiting=sum(value for _, value in waiting) / len(waiting),
        peak=round(max(busy + wanting for (_, busy), (_, wanting) in zip(used, waiting))),
        maxconn=maxconn,
    )
    found = size_by_load(load)
    return None if found is None else found._asdict()
