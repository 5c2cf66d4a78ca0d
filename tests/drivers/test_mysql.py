"""MySQL's drivers: what a connection does not tell of its transactions, its rows and its session."""

from __future__ import annotations

import contextlib
import gc
import sys
from contextlib import closing

import pytest
from asking import ask, tell
from unit.checks import lease_all

from dbpool import ThreadedConnectionPool

from .mysqls import (
    FOR_MYSQLCLIENT,
    FOR_PYMYSQL,
    NAMES,
    lone,
    put_and_get,
    reasons,
    reopened,
)

# ---- which connector it is -------------------------------------------------------------------------------------------


def test_the_connector_is_found_by_the_module_by_a_function_and_by_what_a_function_returns(mysql):
    for connect in (mysql.module, mysql.module.connect, lambda arguments: mysql.connect()):
        with ThreadedConnectionPool(1, 1, mysql.arguments[0], connect=connect) as pool:
            assert type(pool._opener.connector) is NAMES[mysql.driver]
            assert pool._opener.errors.driver is mysql.module.Error


def test_arguments_may_be_keywords_and_a_mapping_may_be_given_anew_each_time(mysql):
    with ThreadedConnectionPool(1, 1, connect=mysql.module, **mysql.arguments[0]) as pool:
        lease_all(pool)
    with ThreadedConnectionPool(1, 1, lambda: mysql.arguments[0], connect=mysql.module) as pool:
        lease_all(pool)


@pytest.mark.parametrize(
    ("told", "expected"), [({}, 4), ({"connect_timeout": 9}, 9), ({"read_default_file": "f"}, None)]
)
def test_the_driver_gives_up_a_connect_a_little_later_than_the_pool(mysql, told, expected):
    assert NAMES[mysql.driver]().adapt((), told, 3.0).get("connect_timeout") == expected


# ---- transactions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["clean", "rollback"])
@pytest.mark.parametrize("how", ["putconn", "block"])
def test_who_has_only_read_leaves_no_snapshot(mysql, other, level, how):
    with lone(mysql, reset=level) as pool:
        if how == "block":
            with pool.connection() as conn:
                assert ask(conn, "SELECT count(*) FROM item") == 1
        else:
            conn = pool.getconn()
            assert ask(conn, "SELECT count(*) FROM item") == 1
            pool.putconn(conn)
        tell(other, "INSERT INTO item VALUES (2, 'milk')")
        again = pool.getconn()
        assert again is conn
        assert ask(again, "SELECT count(*) FROM item") == 2


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_statement_that_failed_leaves_no_lock(mysql, other, autocommit):
    failing = "INSERT INTO item VALUES (1, 'again')"
    if autocommit:  # the transaction begins where no answer tells of it
        procedure = (
            "CREATE OR REPLACE PROCEDURE failing() BEGIN START TRANSACTION; INSERT INTO item VALUES (1, ''); END"
        )
        tell(other, procedure)
        failing = "CALL failing()"
    with lone(mysql) as pool:
        conn = pool.getconn()
        conn.autocommit(autocommit)
        with pytest.raises(mysql.module.IntegrityError):
            tell(conn, failing)
        pool.putconn(conn)
        tell(other, "SET innodb_lock_wait_timeout = 0", "DELETE FROM item")
        assert not mysql.in_transaction(pool.getconn())


def test_what_is_begun_in_autocommit_mode_is_rolled_back(mysql, other):
    with lone(reopened(mysql, autocommit=True)) as pool:
        conn = pool.getconn()
        conn.begin()
        tell(conn, "DELETE FROM item")
        assert ask(conn, "SELECT count(*) FROM item") == 0  # the last answer has rows
        conn = put_and_get(pool, conn)
        assert ask(conn, "SELECT count(*) FROM item") == 1


def count_of(conn, *commands):
    """Return how often the server was told to do each."""
    return [int(_status(conn, f"Com_{command}")) for command in commands]


def _status(conn, name):
    with closing(conn.cursor()) as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
        return cursor.fetchone()[1]


@pytest.mark.parametrize(
    ("autocommit", "expected"),
    [(True, {"pymysql": [0, 0], "MySQLdb": [9, 9]}), (False, {"pymysql": [9, 0], "MySQLdb": [9, 9]})],
)
def test_what_blocks_cost(mysql, other, autocommit, expected):
    with ThreadedConnectionPool(1, 1, mysql.arguments[0], connect=mysql.module, autocommit=autocommit) as pool:
        lease_all(pool)  # a new connection may cost one more
        before = count_of(other, "commit", "rollback")
        for _ in range(9):
            with pool.connection() as conn:
                ask(conn, "SELECT body FROM item")
        after = count_of(other, "commit", "rollback")
    assert [now - then for now, then in zip(after, before)] == expected[mysql.driver]


def test_what_on_connect_leaves_open_is_committed(mysql, other):
    def fill(conn):
        tell(conn, "INSERT INTO item VALUES (7, 'salt')")
        assert ask(conn, "SELECT count(*) FROM item") == 2

    with mysql.pool(minconn=1, maxconn=1, on_connect=fill) as pool:
        assert ask(other, "SELECT count(*) FROM item") == 2
        with pytest.raises(ZeroDivisionError), pool.connection():
            raise ZeroDivisionError
        assert ask(other, "SELECT count(*) FROM item") == 2


# ---- results that nobody has read ------------------------------------------------------------------------------------


def unbuffered(mysql, conn, query):
    """Return a cursor that leaves the rows of *query* at the server."""
    cursor = conn.cursor(sys.modules[f"{mysql.driver}.cursors"].SSCursor)
    cursor.execute(query)
    return cursor


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyMySQL: the cursor, when it is freed
@pytest.mark.parametrize("level", ["clean", "rollback"])
def test_a_connection_with_rows_that_nobody_has_read_is_closed(mysql, level):
    with lone(mysql, reset=level) as pool:
        conn = pool.getconn()
        cursor = unbuffered(mysql, conn, "SELECT seq FROM seq_1_to_100000")
        cursor.fetchone()
        pool.putconn(conn)
        assert reasons(pool) == {"reset failed": 1}
        assert ask(pool.getconn(), "SELECT 1") == 1
    with contextlib.suppress(mysql.module.Error, AttributeError):  # PyMySQL's own: it reads from what is closed
        cursor.close()
    del conn, cursor
    gc.collect()


def test_a_connection_whose_rows_were_all_read_is_kept(mysql):
    with lone(mysql) as pool:
        conn = pool.getconn()
        assert len(unbuffered(mysql, conn, "SELECT 1 UNION SELECT 2").fetchall()) == 2
        put_and_get(pool, conn)


def test_the_results_of_several_statements_are_read_by_the_pool(mysql, other):
    tell(other, "CREATE OR REPLACE PROCEDURE two() BEGIN SELECT 1; SELECT 2; END")
    with lone(mysql) as pool:
        conn = pool.getconn()
        cursor = conn.cursor()
        cursor.callproc("two")
        assert cursor.fetchall() == ((1,),)  # and no nextset()
        conn = put_and_get(pool, conn)
        assert ask(conn, "SELECT 3") == 3


# ---- the session -----------------------------------------------------------------------------------------------------


def test_clean_sets_back_what_the_driver_knows(mysql):
    with lone(mysql) as pool:
        conn = pool.getconn()
        before = conn.cursorclass
        conn.autocommit(True)
        conn.cursorclass = mysql.changed
        conn.set_character_set("latin1")
        conn = put_and_get(pool, conn)
        assert conn.cursorclass is before
        assert not conn.get_autocommit()
        assert ask(conn, "SELECT @@autocommit") == 0
        assert ask(conn, "SELECT @@character_set_client") == "utf8mb4"
        assert ask(conn, "SELECT '\N{SNOWMAN}'") == "\N{SNOWMAN}"


TRACES = {
    "a variable": ("SET @mine = 1", "SELECT @mine IS NOT NULL"),
    "a setting": ("SET time_zone = '+07:00'", "SELECT @@time_zone = '+07:00'"),
    "a mode": ("SET sql_mode = ''", "SELECT @@sql_mode = ''"),
    "an encoding": ("SET NAMES latin1", "SELECT @@character_set_client <> 'utf8mb4'"),
    "a temporary table": ("CREATE TEMPORARY TABLE mine AS SELECT 1 AS a", "SELECT a FROM mine"),
    "a lock": ("DO GET_LOCK('mine', 0)", "SELECT IS_USED_LOCK('mine') IS NOT NULL"),
    "locked tables": ("LOCK TABLES item READ", "SELECT @@in_transaction"),
    "a statement": ("PREPARE mine FROM 'SELECT 1'", "EXECUTE mine"),
    "a database": ("USE information_schema", "SELECT DATABASE() <> 'mysql'"),
    "what transactions are like": (
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT @@tx_isolation = 'SERIALIZABLE'",
    ),
    "autocommit": ("SET autocommit = 1", "SELECT @@autocommit"),
}


def is_there(conn, query):
    """Tell whether a trace is there; an error says that it is not."""
    with closing(conn.cursor()) as cursor:
        try:
            cursor.execute(query)
        except Exception:
            return False
        row = cursor.fetchone()
        return bool(row and row[0])


@FOR_PYMYSQL
@pytest.mark.parametrize("trace", TRACES)
def test_session_leaves_no_trace_of_the_holder_before(mysql, other, trace):
    leave, query = TRACES[trace]
    with lone(mysql, reset="session", on_connect=lambda conn: tell(conn, "SET @ours = 5")) as pool:
        conn = pool.getconn()
        tell(conn, leave)
        if trace == "locked tables":
            with pytest.raises(mysql.module.Error):
                tell(other, "SET lock_wait_timeout = 0", "INSERT INTO item VALUES (3, '')")
        else:
            assert is_there(conn, query), "it left no trace to begin with"
        conn = put_and_get(pool, conn)
        assert not is_there(conn, query)
        tell(other, "INSERT INTO item VALUES (3, '')")
        assert ask(conn, "SELECT @ours") == 5
        assert ask(conn, "SELECT @@character_set_client") == "utf8mb4"


@FOR_PYMYSQL
def test_session_does_again_what_connect_was_told(mysql):
    told = reopened(mysql, sql_mode="ANSI", init_command="SET @first = 1", autocommit=None)
    with lone(told, reset="session") as pool:
        conn = put_and_get(pool, pool.getconn())
        assert "ANSI" in ask(conn, "SELECT @@sql_mode")
        assert ask(conn, "SELECT @first") == 1
        assert ask(conn, "SELECT @@autocommit") == 1


@FOR_MYSQLCLIENT
def test_mysqlclient_refuses_session_by_name(mysql):
    with pytest.raises(ValueError, match="reset='session' is not known for this kind of connection"):
        mysql.pool(reset="session")


@FOR_MYSQLCLIENT
def test_mysqlclient_has_change_user_instead(mysql):
    def renew(conn):
        conn.change_user("root", "", "mysql")
        conn.set_character_set("utf8mb4")
        conn.autocommit(False)

    with lone(mysql, reset=renew) as pool:
        conn = pool.getconn()
        tell(conn, "SET @mine = 1, time_zone = '+07:00'", "USE information_schema")
        conn = put_and_get(pool, conn)
        for query in ("SELECT @mine IS NULL", "SELECT @@time_zone <> '+07:00'", "SELECT DATABASE() = 'mysql'"):
            assert ask(conn, query) == 1
        assert ask(conn, "SELECT @@autocommit") == 0
