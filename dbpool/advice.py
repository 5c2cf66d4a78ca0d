"""Advice on a pool's options: what they make of each other, of the program around them, and of the server.

Pure functions over values. The command ``check`` asks the server for the facts; whoever has them can ask here.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool.config import PoolConfig, count, sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVERITIES = ("error", "warning", "note")  # it will fail; it does not do what was meant; it has a price
OTHERS = 10  # connections left to migrations, cron jobs, monitoring and people
VERSIONS = 2  # while a new version is rolled out, the old one still runs beside it
PLENTY = 10  # connections; without a measurement, no process is advised to take more
ALTERNATING = ("transaction", "statement")  # kinds of pooling by which a client's session changes
SPREAD = 2  # deviations above the mean, for callers who come by chance
CROWDED = 0.9  # the part of a server's connections that may be in use before it is called full


class Finding(NamedTuple):
    """Something to be said of a configuration: a *code* for programs, and a *text* for people."""

    code: str
    severity: str
    text: str


class Deployment(NamedTuple):
    """The program around the pool.

    workers      processes that have such a pool, on all hosts together
    threads      of one process that use the pool at the same time; None: not known
    web_timeout  seconds after which the web server gives a worker up; None: not known, or never
    """

    workers: int = 1
    threads: int | None = None
    web_timeout: float | None = None


class Facts(NamedTuple):
    """The server, as far as it is known: None is not known. Times are in seconds, and 0 is never.

    reserved     connections that are kept for superusers
    used         connections that are open, whoever's, and without those of whoever asked
    others       those of them that are other users'
    own_limit    how many this user may have, or this database
    pooling      "direct"; or behind a PgBouncer or its like: "transaction", "session", "statement" or "unknown"
    connecting, round_trip    how long one takes: at worst, and as a rule
    """

    driver: str | None = None
    max_connections: int | None = None
    reserved: int = 0
    used: int | None = None
    others: int | None = None
    own_limit: int | None = None
    idle_limit: float | None = None
    idle_setting: str = "idle_session_timeout"
    idle_in_transaction_limit: float | None = None
    statement_limit: float | None = None
    read_only: bool | None = None
    pooling: str | None = None
    connecting: float | None = None
    round_trip: float | None = None


class Load(NamedTuple):
    """What was observed of a pool for so many *seconds*.

    used, waiting   how many connections were in use, and how many callers waited, in the mean
    peak            the most of both together
    """

    seconds: float
    leases: int
    used: float
    waiting: float
    peak: int
    maxconn: int


class Size(NamedTuple):
    """How many connections that load takes: *demand* are in use or waited for in the mean, *suggested* are enough."""

    demand: float
    peak: int
    mean_hold: float
    suggested: int
    text: str


NO_DEPLOYMENT, NO_FACTS = Deployment(), Facts()


def lint(
    config: PoolConfig, minconn: int, maxconn: int, around: Deployment = NO_DEPLOYMENT, facts: Facts = NO_FACTS
) -> list[Finding]:
    """Return what there is to say of *config* and the sizes, the worst first; nothing if all is well.

    Raises TypeError or ValueError naming the number that is wrong.
    """
    sizes(minconn, maxconn)
    count("workers", around.workers, 1)
    count("threads", around.threads, 1, optional=True)
    found = [
        *_of_waiting(config, around),
        *_of_ages(config, minconn),
        *_of_returns(config),
        *_of_helpers(config, minconn),
        *_of_sizes(config, minconn, maxconn, around),
        *_of_the_limit(config, minconn, maxconn, around, facts),
        *_of_the_server(config, facts),
        *_of_its_limits(config, around, facts),
        *_of_a_pooler(config, facts),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def size_by_load(load: Load) -> Size | None:
    """Return the size that was enough for *load*; None if nothing was leased.

    By Little's law the leases of a second times what each lasts is what is in use in the mean; callers who wait want
    it, too. Where they come by chance, twice the square root of it more serves nearly all of them at once.
    """
    if load.leases <= 0 or load.seconds <= 0:
        return None
    demand = load.used + load.waiting
    suggested = max(1, ceil(demand + SPREAD * sqrt(demand)))
    rate, hold = load.leases / load.seconds, load.used * load.seconds / load.leases
    text = f"{rate:.3g} leases a second of {hold:.3g} s each keep {load.used:.3g} connections in use"
    if load.waiting:
        text += f", while {load.waiting:.3g} callers wait"
    text += f", at most {load.peak}{' together' if load.waiting else ''}"
    if suggested > load.maxconn:
        text += f": {suggested} would serve nearly all callers at once, maxconn is {load.maxconn}"
    elif max(suggested, load.peak) < load.maxconn / 2:
        text += f": {max(suggested, load.peak)} would be enough, maxconn is {load.maxconn}"
        suggested = max(suggested, load.peak)
    else:
        text += f": maxconn {load.maxconn} suits it"
    return Size(demand, load.peak, hold, suggested, text)


def room(facts: Facts) -> int | None:
    """Return how many connections the server has for all pools together; None: not known."""
    limits = [] if facts.own_limit is None else [facts.own_limit]
    if facts.max_connections is not None:
        limits.append(facts.max_connections - facts.reserved - max(OTHERS, facts.others or 0))
    return max(0, min(limits)) if limits else None


def fitting(facts: Facts, workers: int) -> int | None:
    """Return the largest maxconn that fits, also while a new version is rolled out; 0: none does; None: not known."""
    left = room(facts)
    return None if left is None else left // (workers * VERSIONS)


def suggested(config: PoolConfig, around: Deployment, facts: Facts) -> tuple[int, int, PoolConfig]:
    """Return minconn, maxconn, and *config* with what does not go with the facts changed."""
    fits = fitting(facts, around.workers)
    most = around.threads or PLENTY
    changes: dict[str, Any] = {}
    if around.web_timeout and (config.timeout is None or config.timeout >= around.web_timeout):
        changes["timeout"] = around.web_timeout / 2
    timeout = changes.get("timeout", config.timeout)
    if timeout and timeout < (config.connect_timeout or 0):
        changes["connect_timeout"] = timeout
    if _ends_sooner(config, facts):
        changes["ping_interval"] = (facts.idle_limit or 0) / 2
    if config.reset == "session" and facts.pooling in ALTERNATING:
        changes["reset"] = "clean"
    maxconn = most if fits is None else min(most, fits - (config.max_overflow or 0))
    return 1, max(1, maxconn), config.replace(**changes)


def largest(config: PoolConfig, maxconn: int) -> int | None:
    """Return the most connections that one process can have; None: there is no limit."""
    limits = [] if config.max_overflow is None else [maxconn + config.max_overflow]
    if config.limiter is not None:
        limits.append(config.limiter.limit)
    return min(limits, default=None)


def _of_waiting(config: PoolConfig, around: Deployment) -> Iterator[Finding]:
    timeout, connect, web = config.timeout, config.connect_timeout, around.web_timeout
    if timeout is None:
        yield Finding("no-timeout", "warning", "timeout is None: who waits for a connection may wait for ever")
    elif web is not None and timeout >= web:
        text = f"timeout ({timeout:g} s) is not below the web server's ({web:g} s): workers end before the error"
        yield Finding("timeout-above-web-timeout", "warning", text)
    if connect is None:
        text = "connect_timeout is None: a host that is silent holds a place until the system gives up"
        yield Finding("no-connect-timeout", "warning", text)
    elif timeout and connect > timeout:
        text = f"connect_timeout ({connect:g} s) is above timeout ({timeout:g} s): callers leave before a connect ends"
        yield Finding("connect-timeout-above-timeout", "warning", text)
    if config.check_timeout is None:
        text = "check_timeout is None: a frozen server holds up whoever takes or returns a connection"
        yield Finding("no-check-timeout", "warning", text)


def _of_ages(config: PoolConfig, minconn: int) -> Iterator[Finding]:
    idle, life = config.idle_timeout, config.max_lifetime
    severity = "note" if minconn else "warning"
    which = "connections above minconn are" if minconn else "a connection is"
    for name in ("ping_after", "ping_interval"):
        limit = getattr(config, name)
        if idle and limit is not None and limit >= idle:
            text = f"{name} ({limit:g} s) is not below idle_timeout ({idle:g} s): {which} closed before a ping"
            yield Finding(f"{name.replace('_', '-')}-above-idle-timeout", severity, text)
    if idle and life is not None and life <= idle:
        text = f"max_lifetime ({life:g} s) is not above idle_timeout ({idle:g} s), which so never has an effect"
        yield Finding("lifetime-below-idle-timeout", "warning", text)
    if config.ping_after == 0:
        yield Finding("ping-always", "note", "ping_after is 0: each getconn costs a round trip; check_after costs none")


def _of_returns(config: PoolConfig) -> Iterator[Finding]:
    if config.reset == "none":
        text = 'reset is "none": a transaction that is left open is handed to the next user'
        yield Finding("reset-none", "warning", text)
    if config.reset == "commit":
        text = 'reset is "commit": work that is given back half done is committed'
        yield Finding("reset-commit", "warning", text)
    if config.max_uses == 1:
        yield Finding("max-uses-one", "warning", "max_uses is 1: a connection is opened for each user: that is no pool")


def _of_helpers(config: PoolConfig, minconn: int) -> Iterator[Finding]:
    if not config.background:
        text = "background is False: nothing that hangs is ended, whatever connect_timeout and check_timeout say"
        yield Finding("no-deadlines", "note", text)
        idle = [name for name in ("ping_interval", "leak_threshold") if getattr(config, name) is not None]
        if idle:
            text = f"background is False: {' and '.join(idle)} take effect only when check() is called"
            yield Finding("no-helper", "warning", text)
    if config.start == "background" and minconn == 0:
        text = 'start is "background" and minconn 0: there is nothing to open'
        yield Finding("nothing-to-start", "warning", text)


def _of_sizes(config: PoolConfig, minconn: int, maxconn: int, around: Deployment) -> Iterator[Finding]:
    threads = around.threads
    if largest(config, maxconn) is None:
        text = "max_overflow is None, and there is no limiter: nothing limits how many connections are opened"
        yield Finding("overflow-without-limit", "warning", text)
    if threads is not None and maxconn > threads:
        text = f"maxconn ({maxconn}) is above the {threads} threads that use the pool: some are never needed"
        yield Finding("maxconn-above-threads", "note", text)
    if config.idle_timeout == 0 and minconn < maxconn:
        text = f"idle_timeout is 0: what comes back above minconn ({minconn}) is closed, and opened again in a burst"
        yield Finding("idle-timeout-zero", "note", text)
    if config.limiter is not None and config.limiter.limit < minconn:
        text = f"minconn ({minconn}) is above the limiter's limit ({config.limiter.limit})"
        yield Finding("minconn-above-limiter", "error", text)


def _of_the_limit(
    config: PoolConfig, minconn: int, maxconn: int, around: Deployment, facts: Facts
) -> Iterator[Finding]:
    left, each = room(facts), largest(config, maxconn)
    if left is None or each is None:
        return
    what = f"{around.workers} workers x {each} connections" if around.workers > 1 else f"{each} connections"
    if around.workers * each > left:
        text = f"{what} are more than the {left} that the server has for them"
        yield Finding("maxconn-above-limit", "error", text)
    elif VERSIONS * around.workers * each > left:
        text = f"{what} fit into {left}, but not twice, as while a new version is rolled out"
        yield Finding("rollout-above-limit", "warning", text)
    if minconn and around.workers * minconn > left:
        text = f"{around.workers} workers x minconn {minconn} are more than the {left} that the server has for them"
        yield Finding("minconn-above-limit", "error", text)


def _of_the_server(config: PoolConfig, facts: Facts) -> Iterator[Finding]:
    if facts.read_only is not None:
        found = "read-only" if facts.read_only else "read-write"
        if config.role not in (None, found):
            text = f"role is {config.role!r}, and the server is {found}: no connection would be accepted"
            yield Finding("role-mismatch", "error", text)
        elif config.role is None and facts.read_only:
            yield Finding("read-only-server", "note", "the server takes no writes: a standby, or told to be read-only")
    if facts.max_connections is not None and facts.used is not None:
        open_to_all = facts.max_connections - facts.reserved
        if facts.used >= CROWDED * open_to_all:
            text = f"the server is all but full: {facts.used} of {open_to_all} connections are in use"
            yield Finding("server-full", "warning", text)
    if facts.connecting is not None and config.connect_timeout and facts.connecting > config.connect_timeout / 2:
        text = f"connecting took {facts.connecting:.2g} s: connect_timeout ({config.connect_timeout:g} s) is near"
        yield Finding("slow-connect", "warning", text)
    if facts.round_trip is not None and config.check_timeout and facts.round_trip > config.check_timeout / 2:
        text = f"a round trip takes {facts.round_trip:.2g} s: check_timeout ({config.check_timeout:g} s) is near"
        yield Finding("slow-answers", "warning", text)


def _ends_sooner(config: PoolConfig, facts: Facts) -> bool:
    """Tell whether the server ends idle sessions before the pool closes or pings them; as the pool itself warns."""
    ours = [limit for limit in (config.idle_timeout, config.ping_interval) if limit is not None]
    return bool(facts.idle_limit) and 0 not in ours and all(limit > (facts.idle_limit or 0) for limit in ours)


def _of_its_limits(config: PoolConfig, around: Deployment, facts: Facts) -> Iterator[Finding]:
    if _ends_sooner(config, facts):
        text = (
            f"the server ends sessions that are idle for {facts.idle_limit:g} s ({facts.idle_setting}): "
            "set ping_interval, or idle_timeout, to less"
        )
        yield Finding("idle-limit-below-ours", "warning", text)
    if facts.idle_in_transaction_limit == 0 and config.leak_threshold is None:
        text = (
            "idle_in_transaction_session_timeout is 0: a leaked connection keeps its locks; leak_threshold would tell"
        )
        yield Finding("no-idle-in-transaction-limit", "note", text)
    web, statement = around.web_timeout, facts.statement_limit
    if web is not None and statement is not None and not 0 < statement < web:
        said = f"ends statements after {statement:g} s" if statement else "sets no limit to statements"
        text = f"the server {said}: they may outlast the web server's patience ({web:g} s)"
        yield Finding("statement-limit-above-web-timeout", "note", text)


def _of_a_pooler(config: PoolConfig, facts: Facts) -> Iterator[Finding]:
    if facts.pooling in (None, "direct"):
        return
    text = "max_connections is the server's: the pooler's own limits (max_client_conn, default_pool_size) come first"
    yield Finding("pooler-limits", "note", text)
    if facts.pooling == "session":
        return
    if facts.pooling == "statement":
        text = "the pooler takes no transactions (statement pooling): only connections in autocommit mode work"
        yield Finding("statement-pooling", "error", text)
    sure, severity = ("", "warning") if facts.pooling in ALTERNATING else ("perhaps ", "note")
    where = f"the pooler {sure}gives each transaction another session"
    if config.reset == "session":
        yield Finding("session-reset-behind-pooler", severity, f'{where}: reset="session" resets any of them')
    if facts.driver == "psycopg":
        text = f"{where}: give psycopg's connect prepare_threshold=None"
        yield Finding("prepared-behind-pooler", "note", text)
