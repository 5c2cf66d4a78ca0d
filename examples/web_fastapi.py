"""Notes over HTTP with FastAPI: one pool for the process, used in FastAPI's worker threads.

To try it:

    export DBPOOL_DSN="host=127.0.0.1 dbname=notes user=web"
    psql "$DBPOOL_DSN" -c "CREATE TABLE note (id serial PRIMARY KEY, body text NOT NULL CHECK (body <> ''))"
    uvicorn --app-dir examples --factory web_fastapi:create_app
    curl -H 'Content-Type: application/json' -d '{"body": "buy tea"}' http://127.0.0.1:8000/notes
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import psycopg2
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from dbpool import PoolExhausted, ThreadedConnectionPool

INSERT = "INSERT INTO note (body) VALUES (%s) RETURNING id"
log = logging.getLogger(__name__)
router = APIRouter()


def create_app(maxconn: int = 8, timeout: float = 2.0) -> FastAPI:
    """Return the app. *timeout*: seconds that a request waits for one of the *maxconn* connections."""

    # Entered once in each process of the server, after it was forked: a pool does not survive a fork. So the database
    # sees processes * maxconn connections.
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # The end of this block closes the pool, once the last request is answered. Opening and closing block the event
        # loop, but nobody is served then.
        with ThreadedConnectionPool(
            1,  # opened now, so that a wrong DSN ends the start of the app and not its first request
            maxconn,  # more than the 40 worker threads would never be used
            os.environ["DBPOOL_DSN"],  # with its password: from the environment, never in the code
            application_name="notes",  # goes to psycopg2.connect: so the server's pg_stat_activity names us
            # Shorter than the patience of whoever asks: a 503 in time is worth more than an answer that nobody awaits.
            config={"name": "notes", "timeout": timeout},
        ) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    # PoolTimeout and TooManyWaiters are PoolExhausted, too. All are psycopg2.Error as well, but none is a TimeoutError.
    app.add_exception_handler(PoolExhausted, busy)
    app.add_exception_handler(psycopg2.IntegrityError, refused)
    return app


# The handlers are async, and so need no worker thread: there may be none left when the pool is exhausted.
async def busy(request: Request, error: PoolExhausted) -> JSONResponse:
    # The text of the error, with the state of the pool, is for our log and not for strangers.
    log.warning("%s", error)
    return JSONResponse({"error": "too busy, try again"}, 503, {"Retry-After": "1"})


# The error has left the with block by now: its transaction is rolled back, its connection is in the pool again.
async def refused(request: Request, error: psycopg2.IntegrityError) -> JSONResponse:
    return JSONResponse({"error": "a note needs a text"}, 422)


# The dependency is the pool and not a connection. A dependency that yields a connection would commit after the answer
# was sent (FastAPI 0.118 and later, without scope="function"), and would hold the connection while the route waits for
# a worker thread, of which those may have the last who wait for the connection.
async def get_pool(request: Request) -> ThreadedConnectionPool:
    return request.app.state.pool


Pool = Annotated[ThreadedConnectionPool, Depends(get_pool)]


class Note(BaseModel):
    body: str


class Notes(BaseModel):
    bodies: list[str]


# The routes are def, not async def: FastAPI runs them in worker threads, where waiting for a connection and for the
# database stops nobody else. In an async def, both would stop the event loop, and with it every request.
@router.get("/notes")
def list_notes(pool: Pool):
    # Reading begins a transaction, too: the block ends it, and the connection goes back for the next request.
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT id, body FROM note ORDER BY id")
        notes = cursor.fetchall()
    # Outside the block is what needs no connection: others can have it while we build the answer.
    return [{"id": number, "body": body} for number, body in notes]


@router.post("/notes")
def add_note(note: Note, pool: Pool):
    with pool.connection() as conn, conn.cursor() as cursor:
        cursor.execute(INSERT, (note.body,))
        (number,) = cursor.fetchone()
    # The block has committed; if that had failed, we would not be here. Only now may we say that it is stored.
    return {"id": number, "body": note.body}


@router.post("/notes/import")
def import_notes(notes: Notes, pool: Pool):
    # One block is one transaction: if the third note is refused, the first two are not stored either.
    with pool.connection() as conn, conn.cursor() as cursor:
        for body in notes.bodies:
            cursor.execute(INSERT, (body,))
    return {"imported": len(notes.bodies)}
