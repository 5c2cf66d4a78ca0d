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
CHECK_DSN = "DBPOOL_CHECK_DSN"
MONITOR = "http://127.0.0.1:8765"
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse's parser; it takes no abbreviations, and never shows a DSN that stood in a wrong place."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print the usage and *message*, and exit with status 2."""
        if "://" in message or "passw" in message.lower():
            message = "arguments not understood; a DSN belongs after --dsn, and check takes one, within quotes"
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


def declare_check(commands: Any) -> None:
    """Say what ``check`` takes."""
    parser = commands.add_parser(
        "check",
        help="ask a database server what pool goes with it",
        description="Connects, measures, reads the server's limits, and prints which sizes of pools fit and a "
        "PoolConfig that goes with it. What is said of the pool's options are warnings and notes; the options are "
        "read from the environment (DBPOOL_TIMEOUT, ...). Exit status 0: well; 1: there are warnings; 2: the server "
        "cannot be reached, or the arguments are not understood.",
    )
    parser.add_argument(
        "dsn",
        metavar="DSN",
        nargs="?",
        default=os.environ.get(CHECK_DSN),
        help="host=... dbname=..., or a URI: postgresql://, kingbase://, mysql://; "
        f"default: ${CHECK_DSN} (which, unlike an argument, other users cannot see)",
    )
    parser.add_argument("--driver", metavar="NAME", help="psycopg2, psycopg, ksycopg2, pymysql, mysqlclient")
    for name, kind, default, text in (
        ("--workers", whole(100_000), os.cpu_count() or 1, "processes with a pool, on all hosts; default: CPUs here"),
        ("--threads", whole(100_000), None, "of a worker that use its pool at once; default: not known"),
        ("--web-timeout", seconds(86400), None, "seconds until the web server ends a worker; default: never"),
        ("--minconn", whole(100_000, 0), 1, "with --maxconn; default: 1"),
        ("--maxconn", whole(100_000), None, "look at the pool you have, not at the one suggested"),
        ("--timeout", seconds(600), 5.0, "seconds for a connect, or a question; default: 5"),
    ):
        parser.add_argument(name, metavar="N", type=kind, default=default, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=lambda options: run_check(parser, options))


def run_check(parser: Parser, options: argparse.Namespace) -> int:
    """Run the check."""
    from dbpool.advice import Deployment
    from dbpool.check import Wishes, run

    if not options.dsn:
        parser.error(f"give a DSN, or set {CHECK_DSN}")
    around = Deployment(options.workers, options.threads, options.web_timeout)
    given = None if options.maxconn is None else (options.minconn, options.maxconn)
    try:
        return run(options.dsn, Wishes(options.driver, around, given, options.timeout, options.json))
    except ValueError as exc:
        parser.error(str(exc))


def declare_monitor(commands: Any) -> None:
    """Say what ``monitor`` takes."""
    parser = commands.add_parser(
        "monitor",
        help="a demo load with the monitor page",
        description="Threads use two pools, and the monitor page shows them: on a sqlite3 file, or on the PostgreSQL "
        f"in ${DEMO_DSN}, in a schema that is dropped at the end. Ctrl-C ends it.",
    )
    parser.add_argument("--dsn", default=os.environ.get(DEMO_DSN), help=f"use a PostgreSQL; default: ${DEMO_DSN}")
    parser.add_argument(
        "--port", metavar="N", type=whole(65535, 0), help="of the page; default: 8765 if that is free; 0: any"
    )
    parser.add_argument("--seconds", metavar="N", type=seconds(86400), help="how long; default: until Ctrl-C")
    parser.add_argument(
        "--trouble", action="store_true", help="an exhausted pool, a leak, a database that is down, in turn, for real"
    )
    parser.add_argument("--actions", action="store_true", help="let the page close connections, drain and resize")
    parser.set_defaults(run=lambda options: run_monitor(parser, options))


def run_monitor(parser: Parser, options: argparse.Namespace) -> int:
    """Run the load and the page."""
    from dbpool.demo.monitor import Show, run

    try:
        return run(options.dsn, Show(options.port, options.seconds, options.trouble, options.actions))
    except ModuleNotFoundError as exc:
        parser.error(f"a DSN needs {exc.name}, which is not installed: pip install '.[psycopg2]'")


def declare_top(commands: Any) -> None:
    """Say what ``top`` takes."""
    parser = commands.add_parser(
        "top",
        help="the monitor page in a terminal",
        description="Draws what a monitor page tells (dbpool.monitor). A token is read from $DBPOOL_MONITOR_TOKEN, or "
        "asked for. Exit status with --once 0: all pools are healthy; 1: one is not; 2: the monitor cannot be asked.",
    )
    parser.add_argument("url", metavar="URL", nargs="?", default=MONITOR, help=f"where the page is; default: {MONITOR}")
    parser.add_argument("--once", action="store_true", help="print a line for each pool, and end")
    parser.add_argument("--json", action="store_true", help="with --once: print the state as JSON")
    parser.add_argument("--language", choices=("en", "zh"), help="default: as the environment says")
    parser.set_defaults(run=lambda options: run_top(parser, options))


def run_top(parser: Parser, options: argparse.Namespace) -> int:
    """Show the monitor, or print it once."""
    from dbpool.top import BadAddress, Wishes, run

    if options.json and not options.once:
        parser.error("--json goes with --once")
    try:
        return run(options.url, Wishes(options.once, options.json, options.language))
    except BadAddress as exc:
        parser.print_usage(sys.stderr)
        parser.exit(2, f"{parser.prog}: error: {exc}\n")
    except ModuleNotFoundError:
        parser.error("it needs textual, which is not installed: pip install '.[top]'; --once does not")


COMMANDS: tuple[Callable[[Any], None], ...] = (
    declare_demo,
    declare_monitor,
    declare_top,
    declare_run,
    declare_check,
)


def whole(most: int, least: int = 1) -> Callable[[str], int]:
    """Return a type for argparse: whole numbers from *least* to *most*."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
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
