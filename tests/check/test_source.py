"""What a DSN on the command line is taken to mean, and what is refused without a word of it."""

from __future__ import annotations

import sys

import pytest
from servers import import_or_skip

from dbpool.check.source import BadSource, read


@pytest.fixture
def none_but(monkeypatch):
    """Makes all drivers but the named ones missing."""

    def none_but(*names):
        for name in {"psycopg2", "psycopg", "ksycopg2", "pymysql", "MySQLdb"} - set(names):
            monkeypatch.setitem(sys.modules, name, None)
        for name in names:
            import_or_skip(name)

    return none_but


@pytest.mark.parametrize(
    ("dsn", "installed", "driver", "argument"),
    [
        ("host=a dbname=b", ["psycopg2", "psycopg"], "psycopg2", "host=a dbname=b"),
        ("host=a dbname=b", ["psycopg", "ksycopg2"], "psycopg", "host=a dbname=b"),
        ("host=a dbname=b", ["ksycopg2"], "ksycopg2", "host=a dbname=b"),
        ("host=a options='-c x=http://b'", ["psycopg2"], "psycopg2", "host=a options='-c x=http://b'"),
        ("postgresql://u@a/b", ["psycopg2"], "psycopg2", "postgresql://u@a/b"),
        ("postgres://u@a/b", ["psycopg"], "psycopg", "postgresql://u@a/b"),
        ("postgresql+psycopg://u@a/b", ["psycopg2", "psycopg"], "psycopg", "postgresql://u@a/b"),
        ("postgresql://u@a/b", ["ksycopg2"], "ksycopg2", "kingbase://u@a/b"),
        ("kingbase8://u@a/b", ["psycopg2", "ksycopg2"], "ksycopg2", "kingbase://u@a/b"),
        ("kingbase://u@a/b", ["psycopg2"], "psycopg2", "kingbase://u@a/b"),
    ],
)
def test_the_driver_is_the_first_that_is_installed(none_but, dsn, installed, driver, argument):
    none_but(*installed)
    source = read(dsn)
    assert (source.driver, tuple(source.args), dict(source.kwargs)) == (driver, (argument,), {})


def test_kingbase_without_its_driver_is_the_shim(none_but):
    none_but("psycopg2")
    source = read("kingbase://u@a/b")
    assert (source.module.__name__, source.twin) == ("dbpool.shim", "dbpool.ksycopg2")


@pytest.mark.parametrize("driver", ["pymysql", "mysqlclient", "MySQLdb", "PyMySQL"])
def test_a_mysql_uri_is_keywords(driver):
    import_or_skip("pymysql" if driver.lower() == "pymysql" else "MySQLdb")
    source = read("mysql://web:s%40cret@db:3307/shop?charset=utf8mb4&ssl_ca=/ca.pem", driver)
    assert source.driver == {"pymysql": "pymysql", "PyMySQL": "pymysql"}.get(driver, "MySQLdb")
    assert dict(source.kwargs) == {
        "host": "db", "port": 3307, "user": "web", "password": "s@cret", "database": "shop", "charset": "utf8mb4",
        "ssl": {"ca": "/ca.pem"},
    }  # fmt: skip


def test_mariadb_is_mysql():
    import_or_skip("pymysql")
    assert dict(read("mariadb+pymysql://web@db").kwargs) == {"host": "db", "user": "web"}


@pytest.mark.parametrize(
    ("dsn", "driver", "complaint"),
    [
        ("hunter2", None, "a DSN is host=... dbname=..."),
        ("sqlite://hunter2", None, "scheme is not known; known are postgresql"),
        ("hunter2://a", None, "scheme is not known"),
        ("host=a password=hunter2", "pymysql", "one of the drivers psycopg2, psycopg, ksycopg2"),
        ("mysql://me:hunter2@a", "psycopg2", "one of the drivers pymysql, MySQLdb"),
        ("kingbase://me:hunter2@a", "psycopg", "one of the drivers ksycopg2, psycopg2"),
        ("postgresql+hunter2://a", None, "one of the drivers"),
        ("postgresql://me:hunt@er2@127.0.0.1:1/shop", None, "%40"),
        ("postgresql://me:hunt/er2@127.0.0.1/shop", None, "%2F"),
        ("postgresql://me:hunt#er2@127.0.0.1/shop", None, "%23"),
        ("postgresql://me:hunt?er2@127.0.0.1/shop", None, "%3F"),
        ("postgresql://me:hunt:er2@127.0.0.1:port/shop", None, "%3A"),
        ("mysql://me:hunt@er2@127.0.0.1", None, "%40"),
        ("mysql://me:hunter2@a:99999/b", None, "cannot be read"),
        ("mysql://me:hunter2@a/b?hunter2=1", None, "after the ?"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_shown(dsn, driver, complaint):
    import_or_skip("pymysql")
    with pytest.raises(BadSource) as refused:
        read(dsn, driver)
    assert complaint in str(refused.value)
    for part in ("hunt", "er2"):
        assert part not in str(refused.value)


@pytest.mark.parametrize(
    "authority", ["", "/var/run", "a", "a:1", "a:1,b:2", "u@a,b", "u:p@[::1]:5432", "u:p:q@a", "@a"]
)
def test_what_libpq_understands_is_not_refused(none_but, authority):
    none_but("psycopg2")
    assert read(f"postgresql://{authority}/db?options=-c%20x%3D1").args


def test_a_missing_driver_is_named(none_but):
    none_but()
    with pytest.raises(BadSource, match="none of these can be imported: psycopg2, psycopg, ksycopg2"):
        read("host=a")


def test_a_source_does_not_show_its_arguments():
    import_or_skip("pymysql")
    shown = [repr(read("mysql://me:hunter2@a")), repr(read("mysql://me:hunter2@a").kwargs)]
    import_or_skip("psycopg2")
    shown += [repr(read("host=a password=hunter2")), repr(read("host=a password=hunter2").args)]
    assert "hunter2" not in "".join(shown)
