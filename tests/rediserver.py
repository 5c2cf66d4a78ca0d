"""A Redis of the tests' own, from the machine's program."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clusters import PATIENCE
from servers import require_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator


class Redis:
    """A server on a port of its own, which may be stopped, started again and frozen."""

    def __init__(self, program: str, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]

    def start(self) -> None:
        """Start it; return once it takes connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError("Redis did not start")

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()  # its data is not needed any more
        self._process.wait(PATIENCE)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop its clock for a block."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def started() -> Iterator[Redis]:
    """Yield a new server; end it then."""
    program = shutil.which("redis-server")
    if program is None:
        require_or_skip("redis", "redis-server is not on this machine")
    with tempfile.TemporaryDirectory(prefix="dbpool-redis-") as folder:
        server = Redis(program, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
