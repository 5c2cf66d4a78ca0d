"""Who imports whom: each module only from floors below its own, the pure ones nothing that acts or waits."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dbpool

HOME = Path(dbpool.__file__).parent
FLOORS = (
    {"clock", "frozen", "fork", "locks", "masking", "hidden", "escaping"},
    {"logs", "tally", "storms"},
    {"errors", "entry", "listener", "watch", "standing", "limiter"},
    {"config", "semaphore", "connectors", "housekeeper"},
    {"registry", "bounded", "advice"},
    {"health", "opening", "connectors.aio", "connectors.peers", "connectors.sockets", "connectors.aio_sockets"},
    {"state"},
    {"stats", "holders"},
    {"leaks", "dumping", "history", "verdict"},
    {"core"},
    {"connecting", "returning", "views"},
    {"upkeep"},
    {"shell", "lease", "proxy"},
    {"abstract"},
    {"pool"},
    {"directory"},
    {"endpoints"},
    {"aio"},
    {"twins", "shim", "contrib"},
    {"psycopg2", "ksycopg2"},
    {"__init__"},
    {"runner", "metrics", "check"},
    {"monitor"},
    {"demo", "top"},
    {"cli"},
    {"__main__"},
)
# What the pure modules may import of the standard library; their own floors are held by the test above it.
PURE = {
    "errors": {"__future__", "typing", "sys", "importlib", "copy"},
    "entry": {"__future__", "typing", "enum", "weakref", "collections"},
    "config": {"__future__", "typing", "os", "collections"},
    "advice": {"__future__", "typing", "collections", "math"},
    "semaphore": {"__future__", "typing", "weakref", "collections"},
    "tally": {"__future__", "typing", "bisect", "collections"},
    "verdict": {"__future__", "typing"},
    "registry": {"__future__", "typing", "collections"},
    "health": {"__future__", "typing"},
    "state": {"__future__", "typing"},
    "stats": {"__future__", "typing"},
}
DRIVERS = {"psycopg2", "ksycopg2", "psycopg", "sqlite3", "_sqlite3", "MySQLdb", "pymysql", "asyncpg", "aiosqlite"}


def modules() -> dict[str, str]:
    """Return the source of every module by its name in the package: `state`, `connectors.base`."""
    names = {path: ".".join(path.relative_to(HOME).with_suffix("").parts) for path in HOME.rglob("*.py")}
    return {name: path.read_text(encoding="utf-8") for path, name in names.items()}


def imports_of(source: str) -> set[str]:
    """Return the full names of the modules that *source* imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            submodules = {alias.name for alias in node.names if _is_module(module, alias.name)}
            found |= {f"{module}.{name}" for name in submodules} or {module}
    return found


def _is_module(package: str, name: str) -> bool:
    folder = HOME.parent.joinpath(*package.split("."))
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()


def own(imported: str) -> str | None:
    """Return the name in the package of what is imported, or None if it is another's."""
    root, _, rest = imported.partition(".")
    return (rest or "__init__") if root == "dbpool" else None


def floor(module: str) -> int:
    """Return the floor that *module* stands on: its own, or that of its folder."""
    names = (module, module.split(".", maxsplit=1)[0])
    found = [number for name in names for number, floor in enumerate(FLOORS) if name in floor]
    assert found, f"{module} stands on no floor: name one in FLOORS"
    return found[0]


def climbs(module: str, source: str) -> set[str]:
    """Return what *module* imports from its own floor or a higher one. Connectors may know each other."""
    top = module.split(".", maxsplit=1)[0]
    below = {name for name in map(own, imports_of(source)) if name is not None}
    return {name for name in below if name.split(".")[0] != top and floor(name) >= floor(module)}


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_from_floors_below_its_own(module):
    assert climbs(module, modules()[module]) == set()


def test_an_import_that_climbs_is_seen_wherever_it_stands():
    assert climbs("state", "def f():\n    from dbpool import shell") == {"shell"}
    assert climbs("entry", "from dbpool.errors import bind") == {"errors"}
    assert climbs("pool", "import dbpool") == {"__init__"}
    assert climbs("shell", "from dbpool import logs\nfrom dbpool.state import PoolState") == set()


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for module, source in modules().items():
        graph[module] = {name for name in map(own, imports_of(source)) if name not in (None, module)}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_lock_clock_thread_loop_log_or_driver(module):
    foreign = {name.split(".")[0] for name in imports_of(modules()[module]) if own(name) is None}
    assert foreign <= PURE[module]


def imported_by(statement: str) -> set[str]:
    """Return what *statement* adds to sys.modules in a fresh process."""
    program = f"import sys; sys.path.insert(0, sys.argv[1]); old = set(sys.modules); {statement}; "
    command = [sys.executable, "-I", "-c", program + "print(*set(sys.modules) - old)", str(HOME.parent)]
    untraced = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=untraced)
    return set(done.stdout.split())


def test_importing_the_package_brings_neither_asyncio_nor_a_driver():
    brought = imported_by("import dbpool")
    assert "dbpool.pool" in brought
    assert not brought & (DRIVERS | {"asyncio", "concurrent.futures"})


def test_the_look_at_what_is_imported_would_see_a_driver():
    assert "sqlite3" in imported_by("import dbpool.connectors.sqlite")
