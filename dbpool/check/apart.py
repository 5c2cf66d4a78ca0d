"""The probe in a process of its own: for a driver that lets no other thread run while it waits for a silent server."""

from __future__ import annotations

import json
import subprocess
import sys

from dbpool.check.found import Found
from dbpool.check.probe import probe
from dbpool.check.session import ALL_TOGETHER, Unreachable
from dbpool.check.source import read

STARTING = 5.0  # seconds for a Python to start on a busy machine


def probe_apart(dsn: str, driver: str, seconds: float) -> Found:
    """Return what probe() does; the process is killed if it does not end in time."""
    order = json.dumps({"dsn": dsn, "driver": driver, "seconds": seconds})  # not an argument, which others could see
    limit = ALL_TOGETHER * seconds + STARTING
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    try:
        ended = subprocess.run(
            command, input=order, stdout=subprocess.PIPE, text=True, check=False, timeout=limit,
            start_new_session=True,  # a Ctrl-C is for us, who then kill it
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{driver} hung in its connect; it was ended after {limit:g} s") from None
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        raise Unreachable(f"the process with {driver} ended with status {ended.returncode}") from None
    if "error" in answer:
        raise Unreachable(answer["error"])
    return Found.from_json(answer)


def main() -> None:
    """Do what standard input orders, and print the result."""
    order = json.load(sys.stdin)
    try:
        answer = probe(read(order["dsn"], order["driver"]), order["seconds"]).as_json()
    except Unreachable as exc:
        answer = {"error": str(exc)}
    print(json.dumps(answer), flush=True)
