"""One check from beginning to end."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple

from dbpool.advice import Deployment
from dbpool.check.apart import probe_apart
from dbpool.check.probe import probe
from dbpool.check.report import Report, report
from dbpool.check.screen import printable, show
from dbpool.check.session import Unreachable
from dbpool.check.source import BadSource, read
from dbpool.config import PoolConfig, sizes

if TYPE_CHECKING:
    from dbpool.check.found import Found

WELL, UNWELL, UNREACHABLE = 0, 1, 2
GIL_HOLDERS = ("ksycopg2",)


class Wishes(NamedTuple):
    """What the command line asks for. *given*: the minconn and maxconn to be looked at, instead of those suggested."""

    driver: str | None = None
    around: Deployment = Deployment()
    given: tuple[int, int] | None = None
    seconds: float = 5.0
    as_json: bool = False


def run(dsn: str, wishes: Wishes) -> int:
    """Check the server of *dsn*; return 0, or 1 if there are warnings, or 2 if it cannot be reached.

    Options of the pool are read from the environment, DBPOOL_TIMEOUT for one. Raises ValueError for one that is wrong,
    and for sizes that are.
    """
    config = PoolConfig.from_env()
    if wishes.given is not None:
        sizes(*wishes.given)
    try:
        found = _found(dsn, wishes)
    except (BadSource, Unreachable) as exc:
        _complain(str(exc), wishes)
        return UNREACHABLE
    result = report(found, config, wishes.around, wishes.given)
    _print(result, wishes)
    return WELL if result.is_well() else UNWELL


def _found(dsn: str, wishes: Wishes) -> Found:
    source = read(dsn, wishes.driver)
    if source.driver in GIL_HOLDERS:
        return probe_apart(dsn, source.driver, wishes.seconds)
    return probe(source, wishes.seconds)


def _print(result: Report, wishes: Wishes) -> None:
    if wishes.as_json:
        print(json.dumps(result.as_json(), indent=2), flush=True)
    else:
        show(result)


def _complain(text: str, wishes: Wishes) -> None:
    if wishes.as_json:
        print(json.dumps({"reachable": False, "error": text}, indent=2), flush=True)
    print(f"dbpool check: {printable(text)}", file=sys.stderr)
