"""What ``top`` does from beginning to end: find the token, ask, then draw or print."""

from __future__ import annotations

import json
import os
import sys
from getpass import getpass
from typing import NamedTuple

from dbpool.top.client import TOKEN, Monitor, Unauthorised, Unreachable
from dbpool.top.once import CANNOT_ASK, once
from dbpool.top.words import wished


class Wishes(NamedTuple):
    """What the command line asks for."""

    is_once: bool = False
    as_json: bool = False
    language: str | None = None


def run(url: str, wishes: Wishes) -> int:
    """Show the monitor at *url*; return 0, or with --once 1 if something is wrong; 2 if it cannot be asked.

    Raises BadAddress, and without --once ModuleNotFoundError where textual is not installed.
    """
    try:
        try:
            return _show(Monitor(url, os.environ.get(TOKEN) or None), wishes)
        except Unauthorised:
            if not sys.stdin.isatty():
                raise
            token = getpass(f"{TOKEN}: ")
            return _show(Monitor(url, token.strip() or None), wishes)
    except (Unreachable, Unauthorised) as exc:
        if wishes.as_json:
            print(json.dumps({"reachable": False, "error": str(exc)}, indent=2), flush=True)
        print(f"dbpool top: {exc}", file=sys.stderr)
        return CANNOT_ASK


def _show(monitor: Monitor, wishes: Wishes) -> int:
    if wishes.is_once:
        return once(monitor, wishes.as_json)
    from dbpool.top.app import TopApp

    monitor.state()  # a monitor that is not there, or wants a token, is told of before the screen is taken
    TopApp(monitor, wishes.language or wished(dict(os.environ))).run()
    return 0
