"""Notes over HTTP with Flask: one pool for the process, one connection for each request that needs one.

To try it:

    export DBPOOL_DSN="host=127.0.0.1 dbname=notes user=web"
    psql "$DBPOOL_DSN" -c "CREATE TABLE note (id serial PRIMARY KEY, body text NOT NULL CHECK (body <> ''))"
    flask --app examples/web_flask run
    curl -H 'Content-Type: application/json' -d '{"body": "buy tea"}' http://127.0.0.1:5000/notes
"""

from __future__ import annotations

import atexit
import os

import psycopg2
from flask import Flask, request

from dbpool import PoolExhausted, ThreadedConnectionPool

INSERT = "INSERT INTO note (body) VALUES (%s) RETURNING id"


def create_app(maxconn: int = 8, timeout: float = 2.0) -> Flask:
    """Return the app. *timeout*: seconds that a request waits for one of the *maxconn* connections."""
    app = Flask(__name__)
    # One pool, opened with the app and not with each request. A pool does not survive a fork: a server with several
    # processes must call create_app() in each of them (gunicorn does, without --preload), and the database sees
    # processes * maxconn connections.
    pool = ThreadedConnectionPool(
        1,  # opened now, so that a wrong DSN ends the start of the app and not its first request
        maxconn,
        os.environ["DBPOOL_DSN"],  # with its password: from the environment, never in the code
        application_name="notes",  # goes to psycopg2.connect: so the server's pg_stat_activity names us
        # Shorter than the patience of whoever asks: a 503 in time is worth more than an answer that nobody awaits.
        config={"name": "notes", "timeout": timeout},
    )
    app.extensions["dbpool"] = pool  # for what else needs it: a page of pool.stats(), a command, a test
    atexit.register(pool.close)  # Flask does not tell an app that it ends; the interpreter does

    # PoolTimeout and TooManyWaiters are PoolExhausted, too. All are psycopg2.Error as well, but none is a TimeoutError.
    @app.errorhandler(PoolExhausted)
    def busy(error: PoolExhausted):
        # The text of the error, with the state of the pool, is for our log and not for strangers.
        app.logger.warning("%s", error)
        return {"error": "too busy, try again"}, 503, {"Retry-After": "1"}

    # The error has left the with block by now: its transaction is rolled back, its connection is in the pool again.
    @app.errorhandler(psycopg2.IntegrityError)
    def refused(error: psycopg2.IntegrityError):
        return {"error": "a note needs a text"}, 422

    @app.get("/notes")
    def list_notes():
        # Reading begins a transaction, too: the block ends it, and the connection goes back for the next request.
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT id, body FROM note ORDER BY id")
            notes = cursor.fetchall()
        # Outside the block is what needs no connection: others can have it while we build the answer.
        return [{"id": number, "body": body} for number, body in notes]

    @app.post("/notes")
    def add_note():
        body = request.get_json().get("body")  # before the block: a slow client must not hold a connection
        with pool.connection() as conn, conn.cursor() as cursor:
            cursor.execute(INSERT, (body,))
            (number,) = cursor.fetchone()
        # The block has committed; if that had failed, we would not be here. Only now may we say that it is stored.
        return {"id": number, "body": body}

    @app.post("/notes/import")
    def import_notes():
        bodies = request.get_json().get("bodies", [])
        # One block is one transaction: if the third note is refused, the first two are not stored either.
        with pool.connection() as conn, conn.cursor() as cursor:
            for body in bodies:
                cursor.execute(INSERT, (body,))
        return {"imported": len(bodies)}

    return app
