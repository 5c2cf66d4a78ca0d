"""The servers that are measured against: one that was named, or such as the tests start."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).resolve().parent.parent / "tests"


def _tests() -> None:
    """Have the tests' own modules found."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))


@contextlib.contextmanager
def postgres(dsn: str | None) -> Iterator[str]:
    """Yield the DSN that was given, or that of a server from the tests' chooser."""
    if dsn:
        yield dsn
        return
    _tests()
    from servers import choose

    found, how = choose("auto")
    print(f"PostgreSQL: {how}\n")
    with found.serve() as served:
        yield served


@contextlib.contextmanager
def clusters() -> Iterator[Callable[[], Any]]:
    """Yield a function that starts a PostgreSQL of its own, to be killed and frozen."""
    _tests()
    from clusters import installed, new_cluster
    from servers import choose_for_clusters

    found, how = choose_for_clusters("auto")
    print(f"PostgreSQL: {how}\n")
    with installed(found.binaries) as installation, contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(new_cluster(installation)).start()


@contextlib.contextmanager
def mariadb() -> Iterator[dict[str, Any] | None]:
    """Yield a driver's arguments for a MariaDB; None where its programs are not on this machine."""
    places = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
    if not (shutil.which("mariadbd") or shutil.which("mariadbd", path=places)):
        yield None
        return
    _tests()
    from mariadb import started

    with started() as (arguments, _):
        yield arguments
