"""The command line: one function declares each command of ``python -m dbpool``, and one runs it."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEMO_DSN = "DBPOOL_DEMO_DSN"
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse's parser; it takes no abbreviations, and never shows a DSN that stood in a wrong place."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print the usage and *message*, and exit with status 2."""
        if "://" in message or "password" in message.lower():
            message = "arguments not understood; a DSN belongs after --dsn"
        super().error(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in *argv*, by default the process's arguments; return its exit status."""
    parser = Parser(prog="python -m dbpool", description="What comes with the connection pool.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for declare in COMMANDS:
        declare(commands)
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def declare_demo(commands: Any) -> None:
    """Say what ``demo`` takes. Nothing is imported for it yet."""
    parser = commands.add_parser(
        "demo",
        help="threads move money over a small pool, and none may be lost",
        description="Threads move money between accounts over a small pool; at the end, the database is "
        "compared with what they counted. Exit status 1 if anything is lost or fails.",
    )

    parser.add_argument(
        "--dsn",
        default=os.environ.get(DEMO_DSN),
        help=f"use a PostgreSQL, in a schema that is dropped at the end; default: ${DEMO_DSN} (which, unlike "
        "this option, other users cannot see), else a sqlite3 file in a temporary folder",
    )
    for name, kind, default, text in (
        ("--seconds", seconds(600), 5.0, "how long; default: 5"),
        ("--threads", whole(1000), 8, "how many; default: 8"),
        ("--connections", whole(1000), 3, "the most that they share; default: 3"),
        ("--transfers", whole(10**9), None, "end after so many, if that is sooner"),
    ):
        parser.add_argument(name, metavar="N", type=kind, default=default, help=text)
    parser.set_defaults(run=lambda options: run_demo(parser, options))


def run_demo(parser: Parser, options: argparse.Namespace) -> int:
    """Run the demo."""
    from dbpool.demo import Options, run

    size = Options(options.threads, options.connections, options.seconds, options.transfers)
    try:
        return run(options.dsn, size)
    except ModuleNotFoundError as exc:
        parser.error(f"a DSN needs {exc.name}, which is not installed: pip install '.[psycopg2]'")


def declare_run(commands: Any) -> None:
    """Say what ``run`` takes."""
    parser = commands.add_parser(
        "run",
        help="run a script with psycopg2.pool and ksycopg2.pool replaced",
        description="Runs an unchanged script with the pools of psycopg2 and ksycopg2 (and, where that is missing, "
        "ksycopg2 itself) replaced by ours. The script's exit status is passed on.",
    )
    parser.add_argument("--strict", action="store_true", help="behave as psycopg2.pool to the letter: never wait")
    parser.add_argument("script", metavar="SCRIPT", help="a file of Python")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER, help="what the script is given")
    parser.set_defaults(run=lambda options: run_script(parser, options))


def run_script(parser: Parser, options: argparse.Namespace) -> int:
    """Run the script."""
    from dbpool.runner import run

    try:
        return run(options.script, options.args, options.strict)
    except OSError as exc:
        parser.error(f"cannot read {options.script}: {exc.strerror}")


COMMANDS: tuple[Callable[[Any], None], ...] = (declare_demo, declare_run)


def whole(most: int) -> Callable[[str], int]:
    """Return a type for argparse: whole numbers from 1 to *most*."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, not {text!r}")
        return int(text)

    return read


def seconds(most: float) -> Callable[[str], float]:
    """Return a type for argparse: a time above 0 and up to *most* seconds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"must be above 0 and up to {most:g} seconds, not {text!r}")
        return value

    return read
