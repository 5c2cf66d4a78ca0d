"""Notes over HTTP with FastAPI, asynchronous throughout: one pool for the process, used by its event loop.

To try it:

    export DBPOOL_DSN="host=127.0.0.1 dbname=notes user=web"
    psql "$DBPOOL_DSN" -c "CREATE TABLE note (id serial PRIMARY KEY, body text NOT NULL CHECK (body <> ''))"
    uvicorn --app-dir examples --factory web_fastapi_async:create_app
    curl -H 'Content-Type: application/json' -d '{"body": "buy tea"}' http://127.0.0.1:8000/notes
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from dbpool import AsyncConnectionPool, PoolExhausted

INSERT = "INSERT INTO note (body) VALUES (%s) RETURNING id"
log = logging.getLogger(__name__)
router = APIRouter()


def create_app(maxconn: int = 8, timeout: float = 2.0) -> FastAPI:
    """Return the app. *timeout*: seconds that a request waits for one of the *maxconn* connections."""

    # Entered once in each process of the server, in the loop that serves: a pool belongs to one loop. So the database
    # sees processes * maxconn connections.
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Entering opens the first connection, so that a wrong DSN ends the start of the app and not its first request.
        # The end of this block closes the pool, once the last request is answered.
        async with AsyncConnectionPool(
            1,
            maxconn,
            os.environ["DBPOOL_DSN"],  # with its password: from the environment, never in the code
            connect=psycopg.AsyncConnection.connect,
            application_name="notes",  # goes to connect: so the server's pg_stat_activity names us
            # Shorter than the patience of whoever asks: a 503 in time is worth more than an answer that nobody awaits.
            config={"name": "notes", "timeout": timeout},
        ) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    # PoolTimeout and TooManyWaiters are PoolExhausted, too.
    app.add_exception_handler(PoolExhausted, busy)
    app.add_exception_handler(psycopg.IntegrityError, refused)
    return app


async def busy(request: Request, error: PoolExhausted) -> JSONResponse:
    # The text of the error, with the state of the pool, is for our log and not for strangers.
    log.warning("%s", error)
    return JSONResponse({"error": "too busy, try again"}, 503, {"Retry-After": "1"})


# The error has left the block by now: its transaction is rolled back, its connection is in the pool again.
async def refused(request: Request, error: psycopg.IntegrityError) -> JSONResponse:
    return JSONResponse({"error": "a note needs a text"}, 422)


# The dependency is the pool and not a connection, which would be held until the answer is sent.
async def get_pool(request: Request) -> AsyncConnectionPool:
    return request.app.state.pool


Pool = Annotated[AsyncConnectionPool, Depends(get_pool)]


class Note(BaseModel):
    body: str


class Notes(BaseModel):
    bodies: list[str]


# A client that goes away cancels its request: the block rolls back, and the connection is in the pool again.
@router.get("/notes")
async def list_notes(pool: Pool):
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT id, body FROM note ORDER BY id")
        notes = await cursor.fetchall()
    # Outside the block is what needs no connection: others can have it while we build the answer.
    return [{"id": number, "body": body} for number, body in notes]


@router.post("/notes")
async def add_note(note: Note, pool: Pool):
    async with pool.connection() as conn:
        cursor = await conn.execute(INSERT, (note.body,))
        (number,) = await cursor.fetchone()
    # The block has committed; if that had failed, we would not be here. Only now may we say that it is stored.
    return {"id": number, "body": note.body}


@router.post("/notes/import")
async def import_notes(notes: Notes, pool: Pool):
    # One block is one transaction: if the third note is refused, the first two are not stored either.
    async with pool.connection() as conn:
        for body in notes.bodies:
            await conn.execute(INSERT, (body,))
    return {"imported": len(notes.bodies)}
