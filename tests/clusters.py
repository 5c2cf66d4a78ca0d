"""A PostgreSQL of a test's own, to stop, kill and freeze; needs PostgreSQL's programs and no driver."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0  # seconds for a server to start or to stop

# Tests' data need not outlive the machine: no write waits for a disk.
SETTINGS = {
    "autovacuum": "off",
    "dynamic_shared_memory_type": "mmap",  # kept in the data folder, so that a SIGKILL leaves nothing behind
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "16MB",
    "synchronous_commit": "off",
}
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@dataclass(frozen=True)
class Binaries:
    """Where PostgreSQL's programs are: `home`/bin. A wheel's also need the folder `libraries`."""

    home: Path
    libraries: Path | None = None


def _user_of_servers() -> dict[str, Any]:
    """Return subprocess's arguments: PostgreSQL refuses to run as root, so root's servers run as nobody."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Installation:
    """PostgreSQL's programs, ready for the user who runs servers, and a data folder to copy clusters from."""

    def __init__(self, binaries: Binaries, folder: Path):
        self.folder = folder
        self.user = _user_of_servers()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        self.password = secrets.token_hex(8)
        self.home = self._within_reach(binaries)
        self._own(folder)
        self._initdb()

    def copy_template(self) -> Path:
        """Return a new folder whose `data` is a data folder nobody has used."""
        folder = self.new_folder()
        self.run("cp", "-R", "-p", self.folder / "template", folder / "data")
        return folder

    def new_folder(self) -> Path:
        """Return a new folder for a cluster, with nothing in it."""
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix=""))
        self._own(folder)
        return folder

    def run(self, program: str, *arguments: object) -> None:
        """Run one of PostgreSQL's programs (or any other) as the user who runs servers."""
        own = self.home / "bin" / program
        command = [str(own) if own.exists() else program, *map(str, arguments)]
        done = subprocess.run(
            command,
            **self.options(),
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")

    def options(self) -> dict[str, Any]:
        """Return subprocess's arguments for whatever touches a data folder."""
        return {"cwd": self.folder, "env": self.environ, "stdin": subprocess.DEVNULL, **self.user}

    def _within_reach(self, binaries: Binaries) -> Path:
        # The wheel may lie in root's home, which nobody may not enter: copy it, as far apart as it was.
        if not self.user or binaries.libraries is None:
            return binaries.home
        home = self.folder / "package" / binaries.home.name
        shutil.copytree(binaries.home, home, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        shutil.copytree(binaries.libraries, self.folder / binaries.libraries.name, symlinks=True)
        return home

    def _initdb(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password, encoding="ascii")
        self._own(secret)
        where = ("-D", self.folder / "template", "--pwfile", secret, "--no-sync", "--no-locale", "-E", "UTF8")
        small = "--wal-segsize=1"  # MB: a data folder is copied for each cluster
        self.run("initdb", *where, small, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256")

    def _own(self, path: Path) -> None:
        if self.user:
            os.chown(path, self.user["user"], self.user["group"])


@contextmanager
def installed(binaries: Binaries) -> Iterator[Installation]:
    """Yield an installation in a temporary folder, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="dbpool-pg-") as folder:
        yield Installation(binaries, Path(folder))


class Cluster:
    """A PostgreSQL to start, stop, kill and freeze. `settings` may be changed while it is down."""

    def __init__(self, installation: Installation, folder: Path, settings: dict[str, str]):
        self.installation = installation
        self.data = folder / "data"
        self.settings = settings
        self.port = _free_port()
        who = f"port={self.port} user=postgres dbname=postgres"
        self.dsn = f"host={folder} {who}"  # the Unix socket, no password asked
        self.tcp_dsn = f"host=127.0.0.1 {who} password={installation.password}"  # refuses a wrong password
        self._folder = folder
        self._log = folder / "log"
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._paused: set[int] = set()

    @property
    def pid(self) -> int:
        """The postmaster's process."""
        assert self._postmaster is not None, "the cluster is not running"
        return self._postmaster.pid

    def start(self) -> Cluster:
        """Start the server; return once it answers."""
        settings = {**self.settings, "port": self.port, "unix_socket_directories": self._folder}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.installation.home / "bin" / "postgres"), "-D", str(self.data), *options]
        with self._log.open("ab") as log:
            # In a session of its own: a Ctrl-C in the terminal is for the tests, which then stop it.
            self._postmaster = subprocess.Popen(
                command, **self.installation.options(), stdout=log, stderr=log, start_new_session=True
            )
        _until(lambda: self._is_ready() or self._postmaster.poll() is not None, "start")
        if self._postmaster.poll() is not None:
            self._postmaster = None
            raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
        return self

    def promote(self) -> None:
        """Make a standby a primary; return once it takes writes."""
        self.installation.run("pg_ctl", "promote", "-w", "-D", self.data)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server as `pg_ctl stop -m mode` does: smart, fast or immediate."""
        self._postmaster.send_signal(STOP_SIGNALS[mode])
        self._postmaster.wait(PATIENCE)
        self._postmaster = None

    def kill(self) -> None:
        """End the server as a power cut does: SIGKILL to the postmaster and to every backend."""
        self.pause()  # so that it starts no backend while they are counted
        everyone = [*_children(self.pid), self.pid]
        for pid in everyone:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._postmaster.wait(PATIENCE)
        _until(lambda: all(_status(pid)[0] in "ZX" for pid in everyone), "die")
        self._paused -= set(everyone)
        self._postmaster = None

    def pause(self, pid: int | None = None) -> None:
        """Freeze the postmaster (new connections hang) or the backend *pid*; return once it stands still."""
        pid = self.pid if pid is None else pid
        self._paused.add(pid)
        os.kill(pid, signal.SIGSTOP)
        _until(lambda: _status(pid)[0] in "TtZX", "stand still")

    def resume(self, pid: int | None = None) -> None:
        """Let the postmaster or the backend *pid* go on."""
        pid = self.pid if pid is None else pid
        self._paused.discard(pid)
        os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop the server, however it is, and delete its folder."""
        for pid in list(self._paused):
            with suppress(ProcessLookupError):
                self.resume(pid)
        if self._postmaster is not None:
            try:
                self.stop("immediate")
            except subprocess.TimeoutExpired:
                self.kill()
        self._drop_shared_memory()
        shutil.rmtree(self._folder)

    def _is_ready(self) -> bool:
        lines = self._pid_file()
        # A killed server leaves its file behind: the first line tells whose it is.
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() in ("ready", "standby")

    def _pid_file(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return []

    def _drop_shared_memory(self) -> None:
        # Only a killed server leaves its file, and with it the System V segment that the file names.
        lines = self._pid_file()
        if len(lines) > 6 and shutil.which("ipcrm"):
            segment = lines[6].split()[1]
            subprocess.run(["ipcrm", "-m", segment], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def new_cluster(installation: Installation, **settings: str) -> Iterator[Cluster]:
    """Yield a cluster, not yet started, with *settings* over SETTINGS; remove it at the end."""
    cluster = Cluster(installation, installation.copy_template(), {**SETTINGS, **settings})
    try:
        yield cluster
    finally:
        cluster.remove()


@contextmanager
def new_standby(primary: Cluster, **settings: str) -> Iterator[Cluster]:
    """Yield a hot standby of a running cluster, not yet started; remove it at the end."""
    installation = primary.installation
    standby = Cluster(installation, installation.new_folder(), {**primary.settings, **settings})
    source = f"{primary.dsn} application_name=standby"
    quickly = ("-X", "stream", "-c", "fast", "--no-sync", "--no-manifest")
    try:
        installation.run("pg_basebackup", "-d", source, "-D", standby.data, "-R", *quickly)
        yield standby
    finally:
        standby.remove()


def _free_port() -> int:
    """Return a port below those that the system gives to clients, so that none takes it during a restart."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for another process's state, which can only be asked for."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"PostgreSQL did not {what} within {PATIENCE:.0f} s")
        time.sleep(0.002)


def _status(pid: int) -> tuple[str, int]:
    """Return a process's state letter ("X" once it is gone) and its parent, as Linux tells them."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    state, parent = line.rpartition(")")[2].split()[:2]  # the name before it may hold anything
    return state, int(parent)


def _children(parent: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _status(pid)[1] == parent]
