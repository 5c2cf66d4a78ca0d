"""Threads that share a small pool and move money between accounts; the sum must stay what it was."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from typing import Any, Callable

from unit.threads import Caller

SECONDS = float(os.environ.get("DBPOOL_TRANSFER_SECONDS", "3"))
ACCOUNTS, BALANCE = 10, 1000


class Refused(Exception):
    """A transfer that is called off after its first half: nothing of it may be seen."""


def run(pool: Any, placeholder: str, threads: int = 8) -> int:
    """Transfer for SECONDS in many threads; return how many transfers were made."""
    until = time.monotonic() + SECONDS
    callers = [Caller(_work, pool, placeholder, until, seed) for seed in range(threads)]
    return sum(caller.result(SECONDS + 30) for caller in callers)


def _work(pool: Any, placeholder: str, until: float, seed: int) -> int:
    chance, done = random.Random(seed), 0
    ways = (_by_block, _by_hand, _by_key)
    while time.monotonic() < until:
        source, target = sorted(chance.sample(range(ACCOUNTS), 2))  # in order: no deadlock
        amount = chance.randint(-50, 50)
        work = partial(_transfer, placeholder, source, target, amount, chance.random() < 0.2)
        try:
            chance.choice(ways)(pool, work)
            done += 1
        except Refused:
            pass
    return done


def _transfer(placeholder: str, source: int, target: int, amount: int, fails: bool, conn: Any) -> None:
    cursor = conn.cursor()
    update = f"UPDATE account SET balance = balance + {placeholder} WHERE id = {placeholder}"
    cursor.execute(update, (-amount, source))
    if fails:
        raise Refused
    cursor.execute(update, (amount, target))


def _by_block(pool: Any, work: Callable[[Any], None]) -> None:
    with pool.connection() as conn:
        work(conn)


def _by_hand(pool: Any, work: Callable[[Any], None]) -> None:
    conn = pool.getconn()
    try:
        work(conn)
        conn.commit()
    finally:
        pool.putconn(conn)


def _by_key(pool: Any, work: Callable[[Any], None]) -> None:
    key = object()
    conn = pool.getconn(key)
    try:
        work(conn)
        conn.commit()
    finally:
        pool.putconn(conn, key)


def create(conn: Any, placeholder: str) -> None:
    """Make the accounts."""
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
    for number in range(ACCOUNTS):
        cursor.execute(f"INSERT INTO account VALUES ({placeholder}, {placeholder})", (number, BALANCE))
    conn.commit()


def total(conn: Any) -> int:
    """Return the sum of all balances."""
    cursor = conn.cursor()
    cursor.execute("SELECT sum(balance) FROM account")
    [(found,)] = cursor.fetchall()
    conn.rollback()
    return int(found)
