"""The monitor in a terminal: asks a monitor page for its figures and draws them; or prints them once, for scripts."""

from dbpool.top.client import BadAddress
from dbpool.top.run import Wishes, run

__all__ = ["BadAddress", "Wishes", "run"]
