"""Actions: what the page may do, if that is allowed: close a connection, drain a pool, change its sizes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dbpool.config import sizes
from dbpool.monitor.messages import JSON, Response, answer, refusal
from dbpool.monitor.onloop import NoAnswer, in_loop, loop_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbpool.monitor.sampler import Sampler

PATIENCE = 5.0  # seconds for a loop to answer


class Refused(Exception):
    """It cannot be done; the text says why."""


def act(name: str, body: bytes, sampler: Sampler) -> Response:
    """Do what is asked for in *body*: {"pool": id}, and what *name* takes."""
    try:
        wanted = json.loads(body)
        if not isinstance(wanted, dict):
            raise ValueError("the body must be an object")
        found = [(watched, pool) for watched, pool in sampler.pools() if watched.id == wanted.get("pool")]
        if not found:
            return refusal(404, "pool: this process has none with this id")
        watched, pool = found[0]
        said = _done(pool, DOES[name], wanted)
    except (ValueError, TypeError, RecursionError) as exc:
        return refusal(400, str(exc))
    except Refused as exc:
        return refusal(409, str(exc))
    except NoAnswer:
        return refusal(504, "the pool's event loop does not answer")
    watched.journal.add(name, said)
    return answer(200, json.dumps({"done": True, "text": said}), JSON)


def evict(pool: Any, wanted: dict[str, Any]) -> str:
    """Close a connection: now if it is idle, when it comes back if it is leased."""
    number = _number(wanted, "connection")
    for entry in list(pool._entries.values()):
        if entry.number == number:
            with pool._lock:
                pool._state.retire(entry, "evicted")
            pool._settle(aside=True)
            return f"connection {number} is not used again"
    raise Refused(f"connection {number} is not open any more")


def drain(pool: Any, wanted: dict[str, Any]) -> str:
    """Have all connections replaced."""
    with pool._lock:
        pool._state.drain()
    pool._settle(aside=True)
    return "all connections are replaced"


def resize(pool: Any, wanted: dict[str, Any]) -> str:
    """Change the sizes."""
    minconn, maxconn = _number(wanted, "minconn"), _number(wanted, "maxconn")
    sizes(minconn, maxconn)
    with pool._lock:
        pool._state.set_limits(minconn, maxconn)
    pool._settle(aside=True)
    if pool._config.start != "lazy" and not pool.closed:
        pool._open_missing([], False)
    return f"minconn is {minconn} and maxconn {maxconn}"


DOES: dict[str, Callable[[Any, dict[str, Any]], str]] = {"evict": evict, "drain": drain, "resize": resize}


def _number(wanted: dict[str, Any], name: str) -> int:
    value = wanted.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number")
    return value


def _done(pool: Any, do: Callable[[Any, dict[str, Any]], str], wanted: dict[str, Any]) -> str:
    """Have it done, for a pool of tasks in its loop."""
    if pool.closed:
        raise Refused("the pool is closed")
    if not hasattr(pool, "_loop"):
        return do(pool, wanted)
    loop = loop_of(pool)
    if loop is None:
        raise Refused("the pool's event loop does not run")
    return str(in_loop(loop, PATIENCE, do, pool, wanted))
