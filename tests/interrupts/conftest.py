"""What every sweep of a pool needs."""

from __future__ import annotations

import pytest


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers of logging take their locks in Python code: an interrupt there breaks logging, not the pool."""
    monkeypatch.setattr("dbpool.logs._write", lambda *args, **more: None)
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.05)  # who is not woken, because the waker was cut off, looks soon
