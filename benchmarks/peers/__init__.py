"""The pools that are compared, each behind the same three calls; those that are not installed are left out aloud."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.peers import libpq, others, ours
from benchmarks.peers.base import ClosingPool, Peer, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SYNC", "ClosingPool", "Peer", "Source", "installed", "is_installed"]

SYNC: tuple[Peer, ...] = (*ours.ALL, *libpq.ALL, *others.ALL)


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without doing so."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it is in
        return False


def installed(peers: Iterable[Peer]) -> tuple[list[Peer], list[str]]:
    """Return those whose packages are there, and a note for each of the others."""
    there, notes = [], []
    for peer in peers:
        missing = [name for name in peer.needs if not is_installed(name)]
        if missing:
            notes.append(f"{peer.name}: left out, not installed: {', '.join(missing)}")
        else:
            there.append(peer)
    return there, notes
