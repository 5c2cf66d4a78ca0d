"""Feed: what one viewer is sent: all at first, then each second what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from dbpool.monitor.sampler import Sampler

RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": still here\n\n"
PATIENCE = 5.0  # seconds after which a heartbeat is sent


class Feed:
    """One viewer's stream of server-sent events."""

    def __init__(self, sampler: Sampler, end: Callable[[], object]) -> None:
        self._sampler = sampler
        self._end: Callable[[], object] | None = end
        self._seen = -1
        self.short = False  # it ends after the first event, and the page asks again

    def first(self) -> bytes:
        """Return the beginning."""
        self._seen, text = self._sampler.text("first")
        return RETRY + _event(b"history", text)

    def next(self) -> bytes | None:
        """Wait for what is new; None: there will be nothing more."""
        if not self._sampler.wait(self._seen, PATIENCE):
            return None if self._sampler.closed else HEARTBEAT
        return self.news()

    def news(self) -> bytes | None:
        """Return what is new, without waiting; None: there will be nothing more."""
        if self._sampler.closed:
            return None
        if self._sampler.tick <= self._seen:
            return HEARTBEAT
        before = self._seen
        self._seen, text = self._sampler.text("tick")
        if self._seen <= before + 1:
            return _event(b"state", text)
        self._seen, text = self._sampler.text("first")  # it has missed a row
        return _event(b"history", text)

    def hear(self, bell: Callable[[], object] | None) -> None:
        """Have *bell* called when there is something new; None: no more."""
        self._sampler.hear(self, bell)

    def close(self) -> None:
        """The viewer has left."""
        end, self._end = self._end, None
        if end is not None:
            self.hear(None)
            end()


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
