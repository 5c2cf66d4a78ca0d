"""The pools of ksycopg2's manual, used as its script uses them, by a program that knows ksycopg2 only.

    python -m dbpool run examples/ksycopg2_manual.py

It also runs where ksycopg2 is not installed, over psycopg2, and against a plain PostgreSQL. Where the database is, is
read from KINGBASE_HOST, KINGBASE_PORT, KINGBASE_USER, KINGBASE_PASSWORD and KINGBASE_DATABASE.
"""

import os

import ksycopg2
import ksycopg2.pool

HOST = os.environ.get("KINGBASE_HOST", "localhost")
PORT = os.environ.get("KINGBASE_PORT", "54321")
USER = os.environ.get("KINGBASE_USER", "SYSTEM")
PASSWORD = os.environ.get("KINGBASE_PASSWORD", "")
DATABASE = os.environ.get("KINGBASE_DATABASE", "TEST")

pool = ksycopg2.pool.ThreadedConnectionPool(
    1, 5, f"dbname={DATABASE} user={USER} password='{PASSWORD}' host={HOST} port={PORT}"
)


def conn_exe(statement, values=None):
    """Execute and commit; return the cursor, whose rows are here although its connection is back in the pool."""
    conn = pool.getconn()
    cursor = conn.cursor()
    cursor.execute(statement, values)
    conn.commit()
    pool.putconn(conn)
    return cursor


def first_row(of_pool):
    """Return a row by way of *of_pool*, which is closed then."""
    conn = of_pool.getconn()
    cursor = conn.cursor()
    cursor.execute("SELECT id, name FROM pool_manual ORDER BY id")
    row = cursor.fetchone()
    of_pool.putconn(conn)
    of_pool.closeall()
    return row


def main():
    """Fill a table, read it through each of the pools, and drop it."""
    conn_exe("DROP TABLE IF EXISTS pool_manual")
    conn_exe("CREATE TABLE pool_manual (id int, name varchar(20))")
    for values in ((1, "张三"), (2, "李四"), (3, "王五")):
        conn_exe("INSERT INTO pool_manual VALUES (%s, %s)", values)

    cursor = conn_exe("SELECT id, name FROM pool_manual ORDER BY id")
    print("fetchone:", cursor.fetchone())
    print("fetchall:", cursor.fetchall())

    words = {"database": DATABASE, "user": USER, "password": PASSWORD, "host": HOST, "port": PORT}
    for name in ("SimpleConnectionPool", "AbstractConnectionPool", "PersistentConnectionPool"):
        print(name, first_row(getattr(ksycopg2.pool, name)(1, 5, **words)))
    print("with a dict", first_row(ksycopg2.pool.PersistentConnectionPool(1, 100, words)))

    try:
        conn_exe("SELECT * FROM no_such_table")
    except ksycopg2.Error as error:
        print("kbcode:", error.kbcode)
    conn_exe("DROP TABLE pool_manual")
    pool.closeall()


if __name__ == "__main__":
    main()
