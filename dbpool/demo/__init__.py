"""The demo: threads move money between accounts over a small pool, and nothing may get lost on the way."""

from dbpool.demo.run import run
from dbpool.demo.work import Options

__all__ = ["Options", "run"]
