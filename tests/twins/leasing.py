"""Cases: getting, putting, closing."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from typing import Any

from unit.threads import Caller, eventually

from dbpool import PoolConfig

from .cases import case, threaded
from .subjects import execute

# ---- getting --------------------------------------------------------------------------------------------------------


@case
def ways_to_call(subject):
    pool = subject.pool(1, 3)
    conns = [pool.getconn(), pool.getconn(None), pool.getconn(key="c")]
    pool.putconn(conns[0], None, False)
    pool.putconn(conn=conns[1], key=None, close=True)
    pool.putconn(conns[2], "c", close=True)
    return pool._used, subject.told(pool.closeall)


@case
def last_in_first_out(subject):
    pool = subject.pool(3, 3)
    conns = [pool.getconn() for _ in range(3)]
    for conn in conns:
        pool.putconn(conn)
    return [subject.named(each) for each in conns], [subject.named(pool.getconn()) for _ in conns]


@case
def exhausted(subject):
    """One thread has them all: nobody could give one back."""
    pool = subject.pool(1, 2)
    conns = [pool.getconn(), pool.getconn()]
    refused = subject.told(pool.getconn)
    pool.putconn(conns[0])
    return refused, subject.told(pool.getconn, "key") == subject.named(conns[0])


@case
def whole_text_of_exhausted(subject):
    pool = subject.pool(0, 1)
    conn = pool.getconn()
    try:
        pool.getconn()
    except subject.module.PoolError as error:
        return str(error), subject.state(conn)


@threaded
def exhausted_while_another_thread_works(subject):
    pool = subject.pool(0, 1)
    conn = pool.getconn()
    caller = Caller(subject.told, pool.getconn)
    eventually(lambda: caller.ended or (hasattr(pool, "stats") and pool.stats().waiting))
    pool.putconn(conn)
    told = caller.result()
    return told if told != subject.named(conn) else "the connection that was put back"


@case
def same_key_same_object(subject):
    pool = subject.pool(0, 1)
    keys = ("user", 0, "", ("a", 1), 1.5)
    return [_same(pool, key) for key in keys], subject.told(pool.getconn, [])[0], pool._used


def _same(pool: Any, key: Any) -> bool:
    first, second = pool.getconn(key), pool.getconn(key)
    pool.putconn(first, key)
    return first is second


@case
def automatic_keys_and_users_numbers(subject):
    pool = subject.pool(0, 3)
    pool.getconn(), pool.getconn(0), pool.getconn(1)
    return len(pool._used)


@case
def idle_connection_closed_behind_the_pools_back(subject):
    pool = subject.pool(1, 2)
    pool._pool[0].close()
    return subject.state(pool.getconn())


def unused_for_a_while() -> None:
    """Let more time pass than our pools' check_after: what was used just now is not looked at."""
    until = time.monotonic() + 2 * (PoolConfig().check_after or 0)
    eventually(lambda: time.monotonic() > until)


@case
def idle_connection_whose_session_ended(subject):
    pool = subject.pool(1, 1)
    before = pool._pool[0]
    subject.terminate(before)
    unused_for_a_while()
    conn = pool.getconn()
    return conn is before, subject.told(execute, conn, "SELECT 1")


@case
def dropped_without_put(subject):
    pool = subject.pool(0, 1)
    pool.getconn()
    subject.opened.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
        return subject.told(lambda: bool(pool.getconn()))


# ---- putting --------------------------------------------------------------------------------------------------------


@case
def kept_idle(subject):
    pool = subject.pool(1, 3)
    conns = [pool.getconn() for _ in range(3)]
    for conn in conns:
        pool.putconn(conn)
    return len(pool._pool), subject.states()


@case
def which_one_is_kept_idle(subject):
    pool = subject.pool(1, 3)
    conns = [pool.getconn() for _ in range(3)]
    for conn in conns:
        pool.putconn(conn)
    return [subject.state(conn) for conn in conns]


@case
def nothing_is_kept_without_minconn(subject):
    pool = subject.pool(0, 2)
    pool.putconn(pool.getconn())
    return len(pool._pool)


@case
def put_rolls_back(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    execute(conn, "CREATE TABLE not_there (a int)")
    pool.putconn(conn)
    return subject.idle(pool), subject.state(conn), execute(pool.getconn(), "SELECT to_regclass('not_there')")


@case
def put_after_an_error_rolls_back(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    failed = subject.told(execute, conn, "SELECT no_such_column")
    pool.putconn(conn)
    return failed, subject.state(conn), pool.getconn() is conn


@case
def put_keeps_the_session(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    conn.autocommit = True
    execute(conn, "SET application_name = 'kept'")
    pool.putconn(conn)
    again = pool.getconn()
    return again is conn, conn.autocommit, execute(conn, "SHOW application_name")


@case
def put_keeps_the_drivers_attributes(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True)
    conn.cursor_factory = dict
    pool.putconn(conn)
    return conn.isolation_level, conn.readonly, conn.cursor_factory


@case
def put_discards_what_its_user_closed(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    return len(pool._pool), len(pool._used), pool.getconn() is conn


@case
def put_discards_what_the_server_closed(subject):
    """The user has met the error, so the status is known."""
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    subject.terminate(conn)
    failed = subject.told(execute, conn, "SELECT 1")
    pool.putconn(conn)
    return failed, pool._pool, pool._used, subject.state(conn)


@case
def put_when_rollback_fails(subject):
    """The server ended the session in a transaction, and nobody has noticed."""
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    execute(conn, "SELECT 1")
    subject.terminate(conn)
    told = subject.told(pool.putconn, conn)
    return told, len(pool._used), subject.told(lambda: pool.getconn() is conn)


@case
def put_and_close(subject):
    pool = subject.pool(1, 2)
    conn = pool.getconn()
    pool.putconn(conn, close=True)
    return subject.state(conn), pool._pool, pool._used


@case
def put_without_its_key(subject):
    pool = subject.pool(1, 2)
    conn = pool.getconn("user")
    pool.putconn(conn)
    return pool._used, len(pool._pool)


@case
def put_twice(subject):
    pool = subject.pool(2, 2)
    conn = pool.getconn()
    pool.putconn(conn)
    return subject.told(pool.putconn, conn), len(pool._pool)


@case
def put_twice_with_its_key(subject):
    pool = subject.pool(2, 2)
    conn = pool.getconn("user")
    pool.putconn(conn, "user")
    return subject.told(pool.putconn, conn, "user"), len(pool._pool), subject.state(conn)


@case
def put_of_another_pools_connection(subject):
    pool, other = subject.pool(1, 2), subject.pool(1, 2)
    conn = other.getconn()
    return subject.told(pool.putconn, conn), len(other._used), len(pool._pool)


@case
def put_of_another_pools_connection_with_a_key(subject):
    pool, other = subject.pool(2, 2), subject.pool(1, 2)
    mine, foreign = pool.getconn("user"), other.getconn("user")
    told = subject.told(pool.putconn, foreign, "user")
    return told, [conn is foreign for conn in pool._pool], pool._used.get("user") is mine


@case
def put_under_another_key(subject):
    pool = subject.pool(2, 2)
    first, second = pool.getconn("first"), pool.getconn("second")
    told = subject.told(pool.putconn, first, "second")
    return told, sorted(pool._used), pool._used.get("second") is second


@case
def put_with_a_key_that_it_has_not(subject):
    pool = subject.pool(1, 2)
    conn = pool.getconn()
    return subject.told(pool.putconn, conn, "user"), len(pool._used), len(pool._pool)


@case
def put_of_none(subject):
    pool = subject.pool(1, 2)
    return subject.told(pool.putconn, None)


@case
def put_of_none_with_a_key(subject):
    pool = subject.pool(1, 2)
    pool.getconn("user")
    return subject.told(pool.putconn, None, "user"), list(pool._used)


@case
def put_of_what_is_no_connection(subject):
    return [subject.told(subject.pool().putconn, thing) for thing in ("text", 1, object())]


# ---- closing --------------------------------------------------------------------------------------------------------


@case
def closeall_closes_what_is_leased(subject):
    pool = subject.pool(2, 3)
    pool.getconn(), pool.getconn("user")
    before = subject.states()
    return before, pool.closeall(), pool.closed, subject.states()


@case
def closed_pool_refuses(subject):
    pool = subject.pool(1, 2)
    conn = pool.getconn()
    pool.closeall()
    calls = (pool.getconn, lambda: pool.getconn("user"), lambda: pool.putconn(conn), pool.closeall)
    return [subject.told(call) for call in (*calls, lambda: pool.putconn(None), lambda: pool.putconn(conn, "user"))]


@case
def whole_text_of_closed(subject):
    pool = subject.pool(1, 2)
    pool.closeall()
    try:
        pool.getconn()
    except subject.module.PoolError as error:
        return str(error)


@case
def whole_text_of_unkeyed(subject):
    try:
        subject.pool().putconn(object())
    except subject.module.PoolError as error:
        return str(error)


@case
def closeall_goes_on_when_a_close_fails(subject):
    class Stubborn(subject.driver.extensions.connection):
        tried = 0

        def close(self):
            Stubborn.tried += 1
            if Stubborn.tried <= 2:
                raise ZeroDivisionError
            super().close()

    pool = subject.pool(2, 2, connection_factory=Stubborn)
    pool.getconn()
    return pool.closeall(), Stubborn.tried, pool.closed


@case
def views_of_a_closed_pool(subject):
    pool = subject.pool(2, 3)
    pool.getconn()
    pool.closeall()
    return len(pool._pool), len(pool._used)


@threaded
def threads_share_it(subject):
    pool = subject.pool(2, 2)
    everybody = threading.Barrier(2)

    def work() -> Any:
        conn = pool.getconn()
        everybody.wait(10)
        try:
            return execute(conn, "SELECT 1")
        finally:
            pool.putconn(conn)

    return [caller.result() for caller in [Caller(work), Caller(work)]], len(pool._pool), len(subject.calls)
