"""Which settings over many endpoints are walked by day and by night."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from .loop_endpoints import EndpointSetting

Job = tuple[EndpointSetting, Optional[int]]  # and how many callbacks may run before their turn; None: any number
BOUND = 2
PAIRS = [
    EndpointSetting(("get a", "get b")),
    EndpointSetting(("get b", "get b")),
    EndpointSetting(("timeout 0 b", "get a")),
    EndpointSetting(("dropped a", "get b")),
    EndpointSetting(("drain a", "get b")),
    EndpointSetting(("get a", "get b"), idle="", failures=1),
]
LARGE = [
    EndpointSetting(("put(close) a", "get b")),
    EndpointSetting(("block a", "get b")),
    EndpointSetting(("check a", "get b")),
    EndpointSetting(("close a", "get b")),
    EndpointSetting(("get b", "get b"), total=2, maxconn=2, idle="aa"),
    EndpointSetting(("get a", "get b"), total=2, maxconn=2, idle="ac"),
    EndpointSetting(("shrink a", "get b"), total=2, maxconn=2, idle="aa"),
]
LARGEST = [
    EndpointSetting(("timeout b", "get a"), times=1),
    EndpointSetting(("get b", "get a"), idle="", cancels=1),
    EndpointSetting(("get b", "put(close) a"), cancels=1),
    EndpointSetting(("close a", "get b"), cancels=1),
    EndpointSetting(("get a", "get b", "get c")),
    EndpointSetting(("get a", "timeout 0 b", "get c"), idle=""),
    EndpointSetting(("get a", "put(close) a", "get b"), total=2, maxconn=2, idle="aa"),
    EndpointSetting(("get a", "get a", "get b"), total=2, maxconn=2, idle=""),
]
BY_DAY: list[Job] = [
    *[(each, None) for each in PAIRS],
    *[(each, BOUND) for each in LARGE],
    *[(each, 1) for each in LARGEST],
]
BY_NIGHT: list[Job] = [
    *[(each, None) for each in LARGE],
    *[(each, BOUND) for each in LARGEST],
    *[(replace(each, cancels=1), BOUND) for each in [*PAIRS, *LARGE] if not each.cancels],
]
