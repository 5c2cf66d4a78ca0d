"""A MariaDB of the tests' own, from the machine's programs; no driver is needed to start it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusters import PATIENCE
from servers import require_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("mariadb-install-db", "mariadbd")
SMALL = ("--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0")


def _programs() -> list[str]:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = [shutil.which(name, path=path) for name in PROGRAMS]
    if None in found:
        require_or_skip("mysql", f"not all of {', '.join(PROGRAMS)} are on this machine")
    return found


@contextmanager
def started() -> Iterator[tuple[dict[str, Any], int]]:
    """Yield a driver's arguments for a new server, which listens on a Unix socket, and its process; end it then."""
    install, program = _programs()
    with tempfile.TemporaryDirectory(prefix="dbpool-my-") as folder:
        where, owner = Path(folder), []
        if os.geteuid() == 0:  # a server that root starts changes to another user
            owner = ["--user=nobody"]
            shutil.chown(where, "nobody")
        _run(install, "--no-defaults", f"--datadir={where}/data", "--auth-root-authentication-method=normal", *owner)
        command = [program, "--no-defaults", f"--datadir={where}/data", f"--socket={where}/socket", *SMALL, *owner]
        with (where / "log").open("wb") as log:
            server = subprocess.Popen([*command, "--skip-networking"], stdout=log, stderr=log, start_new_session=True)
        try:
            _await(server, where)
            yield {"unix_socket": f"{where}/socket", "user": "root", "database": "mysql"}, server.pid
        finally:
            server.kill()  # its data is not needed any more
            server.wait(PATIENCE)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")


def _await(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Return once the server takes connections."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(folder / "socket")) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"MariaDB did not start:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")
