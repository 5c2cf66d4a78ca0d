"""A process that shares a folder with others: it answers them, and asks them when it is told to on its input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from unit.threads import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os, sys
from dbpool.monitor import neighbours
from dbpool.monitor.workers import Workers, merged

def answer(history):
    name = f"{os.getpid()}-1"
    pool = {"id": name, "pid": os.getpid(), "name": sys.argv[2]}
    state = {"version": 1, "process": {"pid": os.getpid(), "uptime": 1.0}, "pools": [pool]}
    found = {"state": state, "rows": {name: {"t": 1.0, "used": 1}}}
    return {**found, "history": {name: {"t": [1.0] * int(sys.argv[3])}}} if history else found

neighbours.PATIENCE = 10.0
workers = Workers(sys.argv[1], answer)
workers.start()
print("ready", flush=True)
for line in sys.stdin:
    if line == "fork\\n":
        pid = os.fork()
        if pid:
            print(pid, flush=True)
        else:
            sys.stdin = open(os.devnull)  # the parent's is not the child's to read
            import signal
            signal.pause()
    elif line == "merged\\n":
        own = answer(True)
        print(json.dumps(merged(own, workers.others(history=True))), flush=True)
    else:
        print(json.dumps(workers.others()), flush=True)
workers.close()
"""


class Neighbour:
    """The process."""

    def __init__(self, folder: Path, name: str = "orders", rows: int = 3) -> None:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(folder), name, str(rows)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.pid = self.process.pid
        assert self._hear() == "ready"

    def tell(self, order: str) -> None:
        """Have it do something."""
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    def said(self) -> Any:
        """Return what it answers."""
        return json.loads(self._hear())

    def others(self) -> list[dict[str, Any]]:
        """Have it ask the others."""
        self.tell("others")
        return self.said()

    def end(self) -> int:
        """Let it end by itself; return its exit status."""
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status

    def _hear(self) -> str:
        return self.process.stdout.readline().strip()
