"""Row 49: threads that have connections of their own end, their idents are used again, and executors come and go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import ask, tell
from pains.sessions import backends
from unit.checks import adds_up
from unit.threads import eventually

from dbpool import PersistentConnectionPool, PoolError

THREADS, AT_A_TIME, MAXCONN = 1_000, 4, 8


@pytest.mark.fault(49)
def test_of_1000_short_threads_none_inherits_and_no_more_are_open_than_live_or_are_idle(inn, make, driver):
    pool = make(inn.dsn, 0, MAXCONN, driver=driver, kind=PersistentConnectionPool, timeout=20)
    idents, inherited = [], []

    def work(together):
        together.wait(20)  # so that each of them is in a thread of its own
        with pytest.raises(PoolError):
            pool.putconn()  # whatever ident it has, it has no connection yet
        conn = pool.getconn()
        if conn.info.transaction_status or ask(conn, "SELECT current_setting('faults.owner', true)") == "dead":
            inherited.append(threading.get_ident())
        tell(conn, "SELECT set_config('faults.owner', 'dead', true)")
        assert pool.getconn() is conn
        idents.append(threading.get_ident())

    for turn in range(THREADS // AT_A_TIME):
        with ThreadPoolExecutor(AT_A_TIME) as executor:  # which ends with its threads, in their transactions
            together = threading.Barrier(AT_A_TIME)
            for future in [executor.submit(work, together) for _ in range(AT_A_TIME)]:
                future.result(20)
        assert pool.stats().size <= MAXCONN
        if turn % 50 == 0:
            eventually(lambda: pool.check().used == 0)
            assert pool.stats().size == pool.stats().idle <= 2 * AT_A_TIME
            assert len(backends(inn)) <= MAXCONN
    assert len(idents) == THREADS
    assert len(set(idents)) < THREADS, "no ident was used again: the test proves nothing"
    assert inherited == []
    eventually(lambda: pool.check().used == 0)
    assert pool.stats().opened <= MAXCONN
    assert adds_up(pool)
