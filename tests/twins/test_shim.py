"""dbpool.ksycopg2: what KingbaseES's users write is understood, by ksycopg2 and where there is none."""

from __future__ import annotations

import functools

import pytest
from drivers.conftest import name_socket_for_kingbase
from servers import import_or_skip

from .processes import python
from .subjects import execute
from .test_run import broken


@pytest.fixture
def shim():
    import_or_skip("psycopg2")
    from dbpool import shim

    return shim


@pytest.fixture
def connected(shim, monkeypatch):
    """The settings that reach psycopg2.connect, which connects nowhere."""
    for name in ("HOST", "PORT", "PASSWORD"):
        monkeypatch.delenv(f"KINGBASE_{name}", raising=False)
    calls = []
    monkeypatch.setattr("psycopg2.connect", lambda **settings: calls.append(settings))

    def settings(*args, **kwargs):
        shim.connect(*args, **kwargs)
        last = calls.pop()
        del last["connection_factory"], last["cursor_factory"]
        return last

    return settings


@pytest.fixture
def conn(shim, server):
    """A connection by the shim."""
    made = shim.connect(server.dsn)
    yield made
    made.close()


# ---- what is given to connect ---------------------------------------------------------------------------------------

WORDS = {"dbname": "TEST", "user": "SYSTEM", "password": "a b", "host": "h", "port": "54322"}


BY_DATABASE = {"database" if name == "dbname" else name: value for name, value in WORDS.items()}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("dbname=TEST user=SYSTEM password='a b' host=h port=54322",), {}),
        (("dbname = TEST user= SYSTEM  password =a\\ b host=h port=54322",), {}),
        ((WORDS,), {}),
        ((), WORDS),
        ((), {**WORDS, "dbname": None, "database": "TEST"}),
        ((BY_DATABASE,), {}),
        (("dbname=other user=SYSTEM",), BY_DATABASE),
        (("kingbase://SYSTEM:a%20b@h:54322/TEST",), {}),
        (("kingbase8://SYSTEM:a%20b@h:54322/TEST",), {}),
        (("postgresql://SYSTEM:a%20b@h:54322/TEST",), {}),
        (("postgres://SYSTEM:a%20b@h:54322/TEST",), {}),
    ],
)  # fmt: skip
def test_all_forms_are_understood(connected, args, kwargs):
    assert connected(*args, **kwargs) == WORDS


def test_a_port_may_be_a_number(connected):
    assert connected(host="h", port=5432) == {"host": "h", "port": 5432}


@pytest.mark.parametrize("args", [(), ({"database": "a", "dbname": "b"},)])
def test_database_and_dbname_at_once_are_refused(connected, args):
    with pytest.raises(TypeError, match="both 'database' and 'dbname'"):
        connected(*args, **({} if args else {"database": "a", "dbname": "b"}))


def test_defaults(connected):
    assert connected("host=h") == {"host": "h", "port": "54321"}
    assert connected() == {"port": "54321"}
    assert connected("kingbase://h/TEST") == {"host": "h", "port": "54321", "dbname": "TEST"}


def test_the_environment_gives_what_is_not_given(connected, monkeypatch):
    for name, value in (("HOST", "eh"), ("PORT", "1"), ("PASSWORD", "ep")):
        monkeypatch.setenv(f"KINGBASE_{name}", value)
    assert connected("dbname=x") == {"dbname": "x", "host": "eh", "port": "1", "password": "ep"}
    assert connected(host="h", port="2", password="p") == {"host": "h", "port": "2", "password": "p"}
    assert connected("hostaddr=::1") == {"hostaddr": "::1", "port": "1", "password": "ep"}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("delay=1 host=h retries = 2 password='x delay=1' loadbalance=on failover_mode=a socket_timeout=3",), {}),
        (("kingbase://h?delay=1&password=x%20delay%3D1&loadbalance=on&socket_timeout=5",), {}),
        (({"host": "h", "delay": 1, "retries": 2, "password": "x delay=1"},), {}),
        ((), {"host": "h", "delay": 1, "loadbalance": "on", "failover_x": 1, "password": "x delay=1"}),
    ],
)
def test_options_of_kingbases_library_are_dropped(connected, args, kwargs):
    assert connected(*args, **kwargs) == {"host": "h", "password": "x delay=1", "port": "54321"}


def test_what_is_no_dsn_is_refused_by_the_driver(connected):
    import psycopg2

    with pytest.raises(psycopg2.ProgrammingError):
        connected("no dsn at all")


# ---- errors ---------------------------------------------------------------------------------------------------------


def code_of(call, *args):
    """Return the kbcode of what *call* raises, which must be as the pgcode is."""
    import psycopg2

    with pytest.raises(psycopg2.Error) as caught:
        call(*args)
    assert caught.value.kberror == caught.value.pgerror
    assert caught.value.kbcode == caught.value.pgcode
    return caught.value.kbcode


def test_execute(conn):
    assert code_of(execute, conn, "SELECT * FROM no_such_table") == "42P01"
    assert code_of(execute, conn, "SELECT 1") == "25P02"
    conn.rollback()
    assert code_of(conn.cursor().executemany, "SELECT %s / 0", [(1,)]) == "22012"


def test_commit_of_a_deferred_constraint(conn):
    execute(conn, "CREATE TEMP TABLE once (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    execute(conn, "INSERT INTO once VALUES (1), (1)")
    assert code_of(conn.commit) == "23505"


def test_a_block_that_commits(conn):
    execute(conn, "CREATE TEMP TABLE once (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    def block():
        with conn:
            execute(conn, "INSERT INTO once VALUES (1), (1)")

    assert code_of(block) == "23505"


@pytest.mark.parametrize("fetch", ["fetchone", "fetchmany", "fetchall", "__next__"])
def test_named_cursors(conn, fetch):
    cursor = conn.cursor("named", None, True)
    cursor.execute("SELECT 1 / a FROM generate_series(0, 1) AS a")
    assert code_of(getattr(cursor, fetch)) == "22012"


def test_connecting(shim, server):
    assert code_of(shim.connect, f"{server.dsn} application_name", "x") is None


def test_rollback_of_what_is_closed(conn):
    conn.close()
    assert code_of(conn.rollback) is None


def test_factories_stay_what_they_are(shim, server):
    extras = shim.extras
    for options in (
        {"cursor_factory": extras.DictCursor},
        {"connection_factory": extras.DictConnection},
        {"connection_factory": functools.partial(shim.connection), "cursor_factory": extras.DictCursor},
    ):
        conn = shim.connect(server.dsn, **options)
        assert execute(conn, "SELECT 1 AS one")["one"] == 1
        assert code_of(execute, conn, "SELECT 1 / 0") == "22012"
        assert isinstance(conn, shim.connection)
        assert isinstance(conn, extras.DictConnection) == (options.get("connection_factory") is extras.DictConnection)
        conn.rollback()
        cursor = conn.cursor(cursor_factory=extras.RealDictCursor)
        assert isinstance(cursor, extras.RealDictCursor)
        conn.cursor_factory = type(cursor)  # one that tells already
        assert code_of(execute, conn, "SELECT 1 / 0") == "22012"
        conn.close()


def test_a_function_can_make_the_cursor(conn, shim):
    assert type(conn.cursor(cursor_factory=lambda conn, name: shim.extensions.cursor(conn))) is shim.extensions.cursor


# ---- without ksycopg2 -----------------------------------------------------------------------------------------------

NAMES = """
import sys
import dbpool.ksycopg2 as pool, psycopg2
from dbpool.ksycopg2 import connect, extensions, extras, errors, errorcodes, sql, tz, Error, Binary, apilevel
assert connect is not psycopg2.connect and Error is psycopg2.Error and extras is psycopg2.extras
assert issubclass(pool.PoolError, (psycopg2.Error, psycopg2.pool.PoolError))
assert not hasattr(pool, "no_such_name") and not hasattr(pool, "__no_such_name__")
assert "ksycopg2" not in sys.modules
pool.uninstall()
pool.install({"timeout": 3})
import ksycopg2, ksycopg2.pool, ksycopg2.extras
from importlib.util import find_spec
from ksycopg2.errors import UniqueViolation
assert find_spec("ksycopg2") and find_spec("ksycopg2.pool")
assert ksycopg2.connect is connect and ksycopg2.Error is Error and ksycopg2.extensions is extensions
assert ksycopg2.pool.ThreadedConnectionPool is pool.ThreadedConnectionPool
assert ksycopg2.pool.PoolError is pool.PoolError
assert ksycopg2.pool.SimpleConnectionPool(0, 1)._config.timeout == 3
try:
    import ksycopg2.no_such_module
except ModuleNotFoundError:
    pass
first = ksycopg2
pool.install()
import ksycopg2
assert ksycopg2 is first
pool.uninstall()
pool.uninstall()
assert not [name for name in sys.modules if name.startswith("ksycopg2")]
assert pool.SimpleConnectionPool(0, 1)._config.timeout == 10
print("done")
"""


def test_the_shim_offers_the_drivers_names_and_is_installed_as_the_driver():
    import_or_skip("psycopg2")
    assert python("-c", NAMES, hide="ksycopg2") == (0, "done\n", "")


POOLS = """
import os, sys
import dbpool.ksycopg2 as pool, psycopg2
dsn = sys.argv[1]
words = psycopg2.extensions.parse_dsn(dsn)
words["database"] = words.pop("dbname")
for args, kwargs in (((dsn,), {}), ((words,), {}), ((), words), ((lambda: dsn,), {})):
    for kind in (pool.SimpleConnectionPool, pool.AbstractConnectionPool, pool.ThreadedConnectionPool,
                 pool.PersistentConnectionPool):
        with kind(1, 2, *args, **kwargs) as made:
            conn = made.getconn()
            try:
                conn.cursor().execute("SELECT 1 / 0")
            except pool.Error as error:
                assert error.kbcode == "22012"
            made.putconn(conn)
            assert made.getconn() is conn and not conn.get_transaction_status()
            made.putconn(conn)
pool.install()
import ksycopg2.pool
made = ksycopg2.pool.ThreadedConnectionPool(1, 1, dsn, cursor_factory=ksycopg2.extras and pool.extras.DictCursor)
cursor = made.getconn().cursor()
cursor.execute("SELECT 1 AS one")
print(cursor.fetchone()["one"])
made.closeall()
"""


def test_pools_over_the_shim(server):
    import_or_skip("psycopg2")
    assert python("-c", POOLS, server.dsn, hide="ksycopg2") == (0, "1\n", "")


def test_with_neither_driver_the_extras_are_named():
    status, _, err = python("-c", "import dbpool.ksycopg2", hide="psycopg2,ksycopg2")
    assert status == 1
    english, chinese = err.splitlines()[-2:]
    assert english.startswith("ImportError: neither ksycopg2 nor psycopg2 is installed")
    assert "都没有安装" in chinese
    for hint in (english, chinese):
        assert ".[ksycopg2]" in hint
        assert ".[psycopg2]" in hint


NO_LIBRARY = "libkci.so.5: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize("text", ["", "import ksycopg2_inner_part\n"], ids=["library", "module"])
def test_a_driver_that_cannot_be_loaded(tmp_path, text):
    broken(tmp_path)
    if text:
        (tmp_path / "ksycopg2" / "__init__.py").write_text(text, encoding="utf-8")
    status, _, err = python("-c", "import dbpool.ksycopg2", path=tmp_path)
    assert status == 1
    english, chinese, cause = err.splitlines()[-3:]
    assert english.startswith("ImportError: ksycopg2 is installed but cannot be loaded")
    assert chinese.startswith("ksycopg2 已安装但无法加载")
    for hint in (english, chinese):
        assert "LD_LIBRARY_PATH" in hint
    assert cause == ("No module named 'ksycopg2_inner_part'" if text else NO_LIBRARY)


# ---- over ksycopg2 itself -------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    import_or_skip("ksycopg2")
    from dbpool import ksycopg2

    return ksycopg2


@pytest.mark.parametrize("scheme", ["kingbase", "kingbase8", "postgresql", "postgres"])
def test_the_real_driver_is_given_the_scheme_that_it_knows(real, monkeypatch, scheme):
    given = []
    monkeypatch.setattr("ksycopg2.connect", lambda *args, **kwargs: given.append((args, kwargs)) or object())
    uri = f"{scheme}://u@h/db?x=postgresql://"
    for args, kwargs in (((uri,), {}), ((lambda: uri,), {}), ((uri, None), {}), ((), {"dsn": uri})):
        real.SimpleConnectionPool(0, 1, *args, **kwargs)._connect()
    known = "kingbase://u@h/db?x=postgresql://"
    assert given == [((known,), {}), ((known,), {}), ((known, None), {}), ((), {"dsn": known})]


def test_the_real_driver_is_given_all_else_as_it_is(real, monkeypatch):
    given = []
    monkeypatch.setattr("ksycopg2.connect", lambda *args, **kwargs: given.append((args, kwargs)) or object())
    for args, kwargs in ((("dbname=x host=h",), {}), (({"database": "x"},), {}), ((), {"database": "x"})):
        real.SimpleConnectionPool(0, 1, *args, **kwargs)._connect()
    assert given == [(("dbname=x host=h",), {}), ((), {"database": "x"}), ((), {"database": "x"})]


def test_the_real_driver_connects_by_postgresqls_uri(real, tcp):
    words = dict(word.split("=", 1) for word in tcp.tcp_dsn.split())
    uri = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**words)
    with real.SimpleConnectionPool(1, 1, uri) as pool, pool.connection() as conn:
        assert execute(conn, "SELECT 1") == (1,)


def test_the_real_drivers_names_can_be_had(real, server):
    import ksycopg2

    name_socket_for_kingbase(server.dsn)
    assert real.connect is ksycopg2.connect
    assert real.extras is import_or_skip("ksycopg2.extras")
    with pytest.raises(AttributeError, match="no_such_name"):
        real.no_such_name  # noqa: B018
    with real.connect(server.dsn) as conn:
        assert execute(conn, "SELECT 1") == (1,)
    conn.close()
