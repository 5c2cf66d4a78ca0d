"""Bugs, each planted in a shipped line of what keeps the total over many endpoints, that its walk must find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbpool.core import Core
from dbpool.directory import Directory, Member
from dbpool.limiter import Limiter
from dbpool.state import PoolState

from .loop_endpoints import EndpointSetting

if TYPE_CHECKING:
    from .loop_planted import Patch

PAIR = EndpointSetting(("get a", "get b"))
BUGS: dict[str, tuple[Patch, EndpointSetting]] = {
    "lost wake-up: no gate is set, so who puts does not look": (
        (Limiter, "_set_gates", "state.gate = True", "pass"),
        PAIR,
    ),
    "lost wake-up: the other endpoints are not woken": (
        (Core, "_tell_others", "limiter.wake_others()", "pass"),
        PAIR,
    ),
    "lost wake-up: what is owed to another endpoint is kept": (
        (PoolState, "_yield_to_others", "if self.limiter.claims(", "if 0 and self.limiter.claims("),
        PAIR,
    ),
    "lost wake-up: who was looked for while it was being opened is not found later": (
        (Limiter, "_note", "if state.entries and", "if state.tickets and"),
        EndpointSetting(("get a", "timeout 0 b", "get c"), idle=""),
    ),
    "over the total: no count is taken": (
        (Limiter, "_note", "if now == before:", "if True:"),
        EndpointSetting(("get a", "get b"), idle=""),
    ),
    "over the total: an endpoint is forgotten whose connection is in use": (
        (Member, "_is_empty", "self._state.size() or", ""),
        EndpointSetting(("get a", "get b"), idle=""),
    ),
    "unfair: who came later is let in first": (
        (Limiter, "grants", "self._older(state, since)", "0"),
        EndpointSetting(("get a", "get b", "get c")),
    ),
    "lost slot: who has left is still wished for": (
        (Limiter, "wished", "self._wishing.pop(state.member, None)", "pass"),
        PAIR,
    ),
    "refused: an endpoint that was forgotten is still known": (
        (Directory, "_forget", "self._pools.pop(member.endpoint, None)", "pass"),
        EndpointSetting(("get a", "get b", "get a")),
    ),
}
