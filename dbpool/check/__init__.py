"""The command ``check``: what a database server gives, how quick it is, and which pool goes with it."""

from dbpool.check.run import Wishes, run

__all__ = ["Wishes", "run"]
