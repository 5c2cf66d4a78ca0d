"""Noise: what the pool logs, and what Python could not raise anywhere; without a lock, for interrupts are about."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

QUIET = logging.NullHandler()
FAULTY = logging.ERROR  # what the pool logs at this level is a defect of its own


class Noise(logging.NullHandler):
    """As a context manager it takes what dbpool logs, and sys.unraisablehook."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: Counter[str] = Counter()
        self.defects: list[str] = []

    def __enter__(self) -> Noise:
        logger = logging.getLogger("dbpool")
        logger.addHandler(self)
        logger.propagate, self._propagated = False, logger.propagate
        logging.getLogger("psycopg").addHandler(QUIET)  # else its warnings go to stderr
        sys.unraisablehook, self._hook = self._unraisable, sys.unraisablehook
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger("dbpool")
        logger.removeHandler(self)
        logger.propagate = self._propagated
        logging.getLogger("psycopg").removeHandler(QUIET)
        sys.unraisablehook = self._hook

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record without the handler's lock, which an interrupt might leave locked."""
        if record.levelno >= FAULTY:
            cause = record.exc_info[1] if record.exc_info else None
            self.defects.append(f"{record.getMessage()}: {cause!r}")
        elif record.levelno >= logging.WARNING:
            self.logged[str(record.msg)] += 1
        return True

    def _unraisable(self, unraisable: Any) -> None:
        self.defects.append(f"{unraisable.err_msg or 'not raised'} in {unraisable.object!r}: {unraisable.exc_value!r}")
