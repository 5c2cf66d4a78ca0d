"""connect() with real drivers, and with what is built on a DB-API connect: SQLAlchemy, pandas."""

from __future__ import annotations

import gc
import warnings
from contextlib import closing
from importlib import import_module

import pytest
from servers import import_or_skip
from unit.checks import adds_up, lease_all

from dbpool import PoolError


@pytest.fixture
def postgres3(database):
    """Only psycopg 3."""
    if database.module.__name__ != "psycopg":
        pytest.skip("for psycopg 3")
    return database


def notes(database):
    """Return what others see in the table."""
    with closing(database.connect()) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT body FROM note ORDER BY body")
        return [body for (body,) in cursor.fetchall()]


def insert(proxy, body, database):
    proxy.cursor().execute(f"INSERT INTO note VALUES ({database.placeholder})", (body,))


# ---- the drivers' own ------------------------------------------------------------------------------------------------


def test_close_rolls_back_and_gives_back_the_same_connection(database, kind):
    with database.pool(kind, maxconn=1) as pool:
        proxy = pool.connect()
        raw = proxy.raw
        insert(proxy, "lost", database)
        proxy.close()
        assert notes(database) == []
        with closing(pool.connect()) as again:
            assert again.raw is raw
            insert(again, "kept", database)
            again.commit()
        assert notes(database) == ["kept"]
        assert pool.stats().opened == 1


def test_a_dropped_proxy_rolls_back_and_gives_back(database, kind):
    with database.pool(kind, maxconn=1) as pool:
        proxy = pool.connect()
        insert(proxy, "lost", database)
        del proxy
        gc.collect()
        assert notes(database) == []
        assert (pool.stats().idle, pool.stats().opened) == (1, 1)
        lease_all(pool)


def test_with_is_a_transaction_and_no_close(database, kind):
    if database.with_closes:
        pytest.skip("the driver's own with closes the connection: see the next test")
    with database.pool(kind, maxconn=1) as pool, closing(pool.connect()) as proxy:
        with proxy as inside:
            assert inside is proxy
            insert(proxy, "kept", database)
        insert(proxy, "lost", database)
        with pytest.raises(ZeroDivisionError), proxy:
            raise ZeroDivisionError
        assert not proxy.closed
        assert notes(database) == ["kept"]


def test_with_closes_where_the_drivers_own_does_and_close_frees_the_slot(postgres3, kind):
    with postgres3.pool(kind, maxconn=1) as pool:
        proxy = pool.connect()
        with proxy:
            insert(proxy, "kept", postgres3)
        assert proxy.closed
        assert notes(postgres3) == ["kept"]
        proxy.close()
        assert pool.stats().size == 0
        lease_all(pool)


def test_any_use_after_close_is_an_error_of_the_driver(database, kind):
    with database.pool(kind, maxconn=1) as pool:
        proxy = pool.connect()
        proxy.close()
        with pytest.raises(database.module.Error, match="given back to the pool") as caught:
            proxy.cursor()
        assert isinstance(caught.value, PoolError)


def test_attributes_are_set_on_the_connection_and_restored(database, kind):
    with database.pool(kind, maxconn=1) as pool:
        with closing(pool.connect()) as proxy:
            before = getattr(proxy, database.attribute)
            setattr(proxy, database.attribute, database.changed)
            assert getattr(proxy.raw, database.attribute) == database.changed
        with closing(pool.connect()) as proxy:
            assert getattr(proxy, database.attribute) == before


def test_closeall_under_a_proxy(database, kind):
    pool = database.pool(kind, maxconn=1)
    proxy = pool.connect()
    pool.closeall()
    with pytest.raises(database.module.Error):
        proxy.cursor().execute("SELECT 1")
    proxy.close()
    assert adds_up(pool)


def test_invalidate_frees_the_slot(database, kind):
    with database.pool(kind, maxconn=1) as pool:
        proxy = pool.connect()
        raw = proxy.raw
        proxy.invalidate()
        with pytest.raises(database.module.Error):
            raw.cursor().execute("SELECT 1")
        lease_all(pool)


def test_psycopg2s_functions_take_raw(postgres):
    driver = postgres.module.__name__
    extensions, extras, sql = (import_module(f"{driver}.{name}") for name in ("extensions", "extras", "sql"))
    with postgres.pool(maxconn=1) as pool, closing(pool.connect()) as proxy:
        extensions.register_type(extensions.UNICODE, proxy.raw)
        extras.register_uuid(conn_or_curs=proxy.raw)
        assert sql.Identifier('a"b').as_string(proxy.raw) == '"a""b"'
        assert extensions.quote_ident("a b", proxy.raw) == '"a b"'
        with proxy, proxy.cursor(cursor_factory=extras.DictCursor) as cursor:
            assert cursor.connection is proxy.raw
            cursor.execute("CREATE TEMP TABLE word (body TEXT)")
            extras.execute_values(cursor, "INSERT INTO word VALUES %s", [("one",), ("two",)])
            assert sql.SQL("{}").format(sql.Literal("it's")).as_string(cursor) == "'it''s'"
            cursor.execute("SELECT body FROM word ORDER BY body")
            assert [row["body"] for row in cursor] == ["one", "two"]


def test_a_named_cursor_and_psycopg2s_session_settings(postgres):
    with postgres.pool(maxconn=1) as pool, closing(pool.connect()) as proxy:
        with proxy.cursor("server_side") as cursor:
            cursor.execute("SELECT generate_series(1, 3)")
            assert cursor.fetchall() == [(1,), (2,), (3,)]
        proxy.rollback()
        proxy.set_session(autocommit=True)
        assert proxy.autocommit is proxy.raw.autocommit is True
        assert (proxy.closed, proxy.info.dbname) == (0, proxy.raw.info.dbname)


def test_repr_shows_no_dsn(postgres):
    with postgres.pool(maxconn=1) as pool, closing(pool.connect()) as proxy:
        assert "dbname" not in repr(proxy)
        assert postgres.module.__name__ in repr(proxy)


# ---- SQLAlchemy ------------------------------------------------------------------------------------------------------


def test_sqlalchemys_plain_psycopg2_dialect_takes_none_but_the_drivers_own(postgres):
    """Should this ever pass with a proxy, dbpool.contrib.sqlalchemy is not needed any more."""
    sqlalchemy = import_or_skip("sqlalchemy")
    if postgres.module.__name__ != "psycopg2":
        pytest.skip("for psycopg2")
    with postgres.pool(maxconn=1) as pool:
        null = sqlalchemy.pool.NullPool
        engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=pool.connect, poolclass=null)
        with pytest.raises(TypeError, match="must be a connection"):
            engine.connect()
        gc.collect()
        assert pool.stats().used == 0
        lease_all(pool)


@pytest.fixture
def engine_over(database):
    """Makes SQLAlchemy engines that get their connections from a pool of ours."""
    sqlalchemy = import_or_skip("sqlalchemy")
    urls = {"sqlite3": "sqlite://", "psycopg2": "postgresql+dbpool://"}
    url = urls.get(database.module.__name__)
    if url is None:
        pytest.skip(f"not tried with {database.module.__name__}")
    engines = []

    def make(pool):
        engines.append(sqlalchemy.create_engine(url, creator=pool.connect, poolclass=sqlalchemy.pool.NullPool))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


def test_sqlalchemy_commits_rolls_back_and_gives_back(database, kind, engine_over):
    from sqlalchemy import text

    with database.pool(kind, maxconn=1) as pool:
        engine = engine_over(pool)
        with engine.begin() as conn:
            conn.execute(text("INSERT INTO note VALUES (:body)"), {"body": "kept"})
        assert pool.stats().used == 0
        with engine.connect() as conn:  # not committed
            conn.execute(text("INSERT INTO note VALUES (:body)"), {"body": "lost"})
        with engine.connect() as conn:
            assert conn.execute(text("SELECT body FROM note")).scalars().all() == ["kept"]
            assert pool.stats().used == 1
        assert notes(database) == ["kept"]
        assert (pool.stats().used, pool.stats().opened) == (0, 1)
        lease_all(pool)


def test_sqlalchemys_orm_and_inspection(database, kind, engine_over):
    from sqlalchemy import Column, Integer, MetaData, String, Table, inspect, select
    from sqlalchemy.orm import Session, registry

    class Account:
        pass

    table = Table("account", MetaData(), Column("id", Integer, primary_key=True), Column("owner", String(20)))
    registry().map_imperatively(Account, table)
    with database.pool(kind, maxconn=2) as pool:
        engine = engine_over(pool)
        table.create(engine)
        assert inspect(engine).has_table("account")
        with Session(engine) as session:
            account = Account()
            account.owner = "Li"
            session.add(account)
            session.commit()
            assert session.scalars(select(Account.owner)).all() == ["Li"]
        table.drop(engine)
        assert pool.stats().used == 0
        lease_all(pool)


def test_sqlalchemys_invalidate_and_isolation_level(database, kind, engine_over):
    from sqlalchemy import text

    with database.pool(kind, maxconn=1) as pool:
        engine = engine_over(pool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("INSERT INTO note VALUES ('at once')"))
            assert notes(database) == ["at once"]
        with engine.connect() as conn:
            conn.execute(text("INSERT INTO note VALUES ('lost')"))
            conn.invalidate()
            assert pool.stats().used == 0
        assert notes(database) == ["at once"]
        lease_all(pool)


def test_what_sqlalchemy_drops_comes_back(database, kind, engine_over):
    with database.pool(kind, maxconn=1) as pool:
        engine = engine_over(pool)
        for _ in range(3):
            raw = engine.raw_connection()
            raw.cursor().close()
            del raw
            gc.collect()
        assert (pool.stats().used, pool.stats().opened) == (0, 1)


# ---- pandas ----------------------------------------------------------------------------------------------------------


def test_pandas_reads_and_writes(database, kind):
    pandas = import_or_skip("pandas")
    with database.pool(kind, maxconn=1) as pool:
        with closing(pool.connect()) as proxy:
            insert(proxy, "one", database)
            insert(proxy, "two", database)
            proxy.commit()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*only supports SQLAlchemy", category=UserWarning)
            frame = pandas.read_sql("SELECT body FROM note ORDER BY body", pool.connect())
        assert list(frame["body"]) == ["one", "two"]
        gc.collect()
        assert (pool.stats().used, pool.stats().opened) == (0, 1)


def test_pandas_over_sqlalchemy_over_the_pool(database, kind, engine_over):
    pandas = import_or_skip("pandas")
    with database.pool(kind, maxconn=1) as pool:
        engine = engine_over(pool)
        assert pandas.DataFrame({"body": ["one", "two"]}).to_sql("note", engine, if_exists="append", index=False) == 2
        assert list(pandas.read_sql("SELECT body FROM note ORDER BY body", engine)["body"]) == ["one", "two"]
        assert pool.stats().used == 0
