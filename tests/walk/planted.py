"""Bugs, each planted in one shipped line, that the walk must find. Each is named for what goes wrong."""
# ruff: noqa: E501  (shipped lines are quoted as they are)

from __future__ import annotations

from .scenarios import Setting

Patch = tuple[str, str, str]  # module, shipped text, wrong text
BUGS: dict[str, tuple[Patch, Setting]] = {
    "lost wake-up: putconn does not look at the gate after the append": (
        (
            "abstract",
            "                    if self._state.gate:  # after the append, never before\n                        self._settle()\n",
            "",
        ),
        Setting(("get", "get")),
    ),
    "lost wake-up: putconn looks at the gate before the append": (
        (
            "abstract",
            "                    self._idle.append(conn)\n                    entry = None  # from here on it may be another's\n                    if self._state.gate:  # after the append, never before\n",
            "                    gate = self._state.gate\n                    self._idle.append(conn)\n                    entry = None\n                    if gate:\n",
        ),
        Setting(("get", "get")),
    ),
    "lost wake-up: nobody matches after a caller has queued": (
        (
            "shell",
            "            todo = self._state.match(uptime())\n        if self._do(todo, aside=waiter.patient):\n            self._settle(aside=waiter.patient)\n",
            "",
        ),
        Setting(("get", "get"), idle=0),
    ),
    "lost wake-up: the gate is lowered for a moment": (
        (
            "state",
            "        self.again = todo.again\n        if self.lost:\n",
            "        self.again = todo.again\n        self.gate = False\n        if self.lost:\n",
        ),
        Setting(("get", "get")),
    ),
    "lost wake-up: the gate is not raised by who queues": (
        (
            "state",
            "        self.waiters.join(waiter)\n        self.gate = True\n",
            "        self.waiters.join(waiter)\n",
        ),
        Setting(("get", "get")),
    ),
    "lost work: who has closed does not match again": (
        (
            "core",
            "                todo.again.append(True)\n                self._close(todo.close[-1])\n",
            "                self._close(todo.close[-1])\n",
        ),
        Setting(("close", "get")),
    ),
    "slot lost on failed connect: its ticket is not ended": (
        (
            "registry",
            "        self.end(ticket)\n        return delivered\n",
            "        return delivered\n",
        ),
        Setting(("get", "get"), idle=0, failures=1),
    ),
    "double holder: the claim of a put is no claim": (
        ("abstract", "entry = self._leases.pop(id(conn))  # the claim", "entry = self._leases[id(conn)]"),
        Setting(("double put", "get")),
    ),
    "late connection after close: one that comes back stays": (
        (
            "health",
            "        while self.idle and (self.closed or self.waiters.room",
            "        while self.idle and (self.waiters.room",
        ),
        Setting(("close", "get")),
    ),
    "closed pool: waiters are not told": (
        (
            "state",
            '        if self.closed:\n            waiter.error = self.errors.PoolClosed("connection pool is closed")\n            return True\n',
            "",
        ),
        Setting(("close", "get"), idle=0),
    ),
    "over the limit: a connection that is being closed holds no slot": (
        (
            "registry",
            "        return len(self.entries) + len(self.tickets)\n",
            "        return len(self.entries) + len(self.tickets) - len(self.closing)\n",
        ),
        Setting(("get", "put(close)")),
    ),
    "over the limit: a ticket holds no slot": (
        ("registry", "        return len(self.entries) + len(self.tickets)\n", "        return len(self.entries)\n"),
        Setting(("get", "get"), idle=0),
    ),
    "lost slot: a closed connection is not reported": (
        ("core", "                self._state.lost.append(entry)\n", "                pass\n"),
        Setting(("get", "put(close)")),
    ),
    "lost slot: a dropped lease is not reaped": (
        ("state", "        if self.lost:\n            self._reap(todo.clean)\n", ""),
        Setting(("dropped", "get")),
    ),
    "lost connection: match takes it before it knows for whom": (
        (
            "state",
            "            waiter.wake()\n            self.waiters.leave(waiter)\n            if waiter.ticket is not None:\n                self._take_back_ticket(waiter)\n            if waiter.slept",
            "            self.waiters.leave(waiter)\n            if waiter.ticket is not None:\n                self._take_back_ticket(waiter)\n            if waiter.slept",
        ),
        Setting(("get", "get")),
    ),
}
