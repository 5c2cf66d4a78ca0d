"""A PgBouncer of the tests' own before one of their servers, from the machine's program."""

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

from clusters import PATIENCE, _user_of_servers
from servers import require_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
ignore_startup_parameters = extra_float_digits
"""


def _program() -> str:
    found = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    return found or require_or_skip("pgbouncer", "pgbouncer is not on this machine")


@contextmanager
def bouncer(cluster: Any, **settings: str) -> Iterator[str]:
    """Yield the DSN of a new PgBouncer before *cluster*, with *settings* (pool_mode="transaction"); end it then."""
    program, port = _program(), _free_port()
    with tempfile.TemporaryDirectory(prefix="dbpool-bouncer-") as folder:
        text = CONFIGURATION.format(server=cluster.port, port=port, folder=folder)
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        Path(folder, "ini").write_text(text, encoding="ascii")
        Path(folder, "users").write_text(f'"postgres" "{cluster.installation.password}"\n', encoding="ascii")
        os.chmod(folder, 0o755)  # it refuses to run as root
        with Path(folder, "log").open("wb") as log:
            command = [program, f"{folder}/ini"]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **_user_of_servers()
            )
        try:
            _await(process, port, Path(folder, "log"))
            yield cluster.tcp_dsn.replace(f"port={cluster.port}", f"port={port}")
        finally:
            process.kill()
            process.wait(PATIENCE)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once it takes connections."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"PgBouncer did not start:\n{log.read_text(errors='replace')[-2000:]}")
