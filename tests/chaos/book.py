"""Book: a history that a test writes by hand."""

from __future__ import annotations

import itertools

from .events import Event
from .history import check

CLOCK = itertools.count(1)
POOL = 100  # a process


class Book:
    """A history that is written line by line, a second each."""

    def __init__(self, maxconn=2):
        self.events = []
        self.committed = []
        self.resize(maxconn)

    def note(self, thread, stage, op, call=0, conn=0, data=None, after=1.0, pool=POOL):
        at = self.events[-1].at + after if self.events else 0.0
        self.events.append(Event(at, pool, thread, stage, op, call, conn, 1000 + conn if conn else 0, data))

    def resize(self, maxconn):
        self.note(0, "invoke", "resize", data=maxconn)
        self.note(0, "ok", "resize", data=maxconn)

    def ask(self, thread, timeout=60.0, **more):
        self.note(thread, "invoke", "get", call=next(CLOCK), data=timeout, **more)
        return self.events[-1].call

    def get(self, thread, conn, data=None, **more):
        call = self.ask(thread, **more)
        self.note(thread, "ok", "get", call, conn, data, **more)
        return call

    def write(self, thread, call, outcome="ok", is_there=True, found=None, **more):
        token = f"token {call}"
        conn = next(event.conn for event in self.events if event.call == call and event.conn)
        self.note(thread, "invoke", "write", call, data=token, **more)
        self.note(thread, "ok", "read", call, data=found or [token, token, 1000 + conn], **more)
        self.note(thread, outcome, "write", call, **more)
        if is_there:
            self.committed.append(token)

    def put(self, thread, call, within=10.0, **more):
        self.note(thread, "invoke", "put", call, data=within, **more)
        self.note(thread, "ok", "put", call, **more)

    def turn(self, thread, conn, **more):
        call = self.get(thread, conn, **more)
        self.write(thread, call, **more)
        self.put(thread, call, **more)

    def line(self, *threads, calm=(0, 0)):
        began = self.events[-1].at + 0.1
        self.note(0, "note", "line", data={"began": began, "line": list(threads), "calm": calm and list(calm)})

    def rules(self):
        return [violation.rule for violation in check(self.events, self.committed)]
