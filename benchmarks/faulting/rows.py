"""The rows of the table: which probe, what is better, and what has to be known to read its figures."""

from __future__ import annotations

from . import probes_interrupts, probes_server, probes_sessions, probes_threads
from .table import Row

LESS = "lower is better"

ROWS = (
    Row(
        1,
        "KeyboardInterrupt at every point of an uncontended get: points / slots lost / deadlocked pools",
        "fewer lost and deadlocked is better",
        probes_interrupts.getting,
        note="without the check, whose points are the driver's; how many points there are is not ranked",
        together=True,
    ),
    Row(
        2,
        "the same during put",
        "fewer lost and deadlocked is better",
        probes_interrupts.putting,
        together=True,
    ),
    Row(
        3,
        "Ctrl-C while waiting, then a put by the holder",
        "ok before slot lost",
        probes_interrupts.waiting,
    ),
    Row(
        4,
        "one waiter against two hogs, maxconn=1, each holds for 1 ms: median wait",
        LESS,
        probes_threads.hogged,
        times=(0,),
        note=f"each wait was given up after {probes_threads.PATIENCE:.0f} s",
    ),
    Row(
        5,
        "five idle backends killed: errors in 10 uses",
        LESS,
        probes_server.killed,
        note=f"idle for {probes_server.IDLE} s when they are killed, and used at once. psycopg2's connections have no "
        "ping(), so DBUtils is given ping='select 1'",
    ),
    Row(
        6,
        "backend killed in a transaction, put untouched",
        "ok before raises before slot lost",
        probes_server.killed_in_transaction,
    ),
    Row(
        7,
        "frozen backend (SIGSTOP), check on, get(timeout=2)",
        LESS,
        probes_server.frozen,
        times=(0,),
        note=f"cut off after {probes_server.FREEZE:.0f} s; dbpool with ping_after=0, for by default it asks the server "
        "only if a connection was unused for a minute",
        together=True,
    ),
    Row(
        8,
        "crash and restart, 2 s down, 8 threads on 4: failed calls; from accept to first success",
        "fewer failed calls, then sooner, is better",
        probes_server.restarted,
        times=(1,),
        note=f"medians of {probes_server.TRIES}; the threads begin when the server is gone, and pause for 20 ms after "
        "each call. A pool that fails at each try while the server is away is the first to find it back",
        restarts=True,
    ),
    Row(
        9,
        f"put by another thread during a connect of {probes_threads.DIAL} s",
        LESS,
        probes_threads.put_while_connecting,
        times=(0,),
    ),
    Row(
        10,
        "fork: the child uses the pool and ends",
        "parent unharmed before harmed, own backend before shared",
        probes_sessions.forked,
    ),
    Row(
        11,
        "SET search_path, SET timeout, temp table, advisory lock, PREPARE, LISTEN: leaked of 6",
        LESS,
        probes_sessions.leaked,
        note="with the pool's best setting (dbpool: reset='session'; psycopg_pool: reset=, SQLAlchemy: the reset "
        "event, generic-connection-pool: on_release, each with DISCARD ALL), and by default",
    ),
    Row(
        12,
        "connection dropped without put, found by the garbage collector",
        "recovered before lost",
        probes_threads.dropped,
    ),
    Row(
        13,
        "close() with a waiter (and with a connect under way): until the waiter knows",
        LESS,
        probes_threads.closed,
        times=(0, 1),
        note=f"given up after {probes_threads.PATIENCE:.0f} s",
        together=True,
    ),
    Row(
        14,
        "three SystemExit in the hook of new connections: slots left of 3",
        "more is better",
        probes_threads.exiting_hook,
        note="where there is no hook, in the driver's connect",
    ),
    Row(
        15,
        "server down; wrong password: what get(timeout=2) shows",
        "cause before bare timeout",
        probes_server.refused,
        note="the seconds are not ranked, as long as they are not above the timeout: a pool that tells at once that "
        "the server is down cannot wait for it, as in row 8",
        restarts=True,
    ),
    Row(
        16,
        "wall clock +1 day, lifetime 1 h: needless reconnects of 3",
        LESS,
        probes_server.set_clock,
    ),
)
