"""The split between revisions: what a router is asked for, and what it says."""

from collections.abc import Sequence
from dataclasses import dataclass

from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import Stickiness


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSplit:
    """What a router shall do. `canary` is empty when there is none; `weight` is its percent (0-100).

    With `stickiness` the weight is that of users: each stays with the revision that was drawn at the first request.
    """

    stable: str
    canary: str = ""
    weight: int = 0
    header_matches: Sequence[HeaderMatch] = ()
    mirror_percent: int = 0
    stickiness: Stickiness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """What the router says: is it there, did it act, and on which weight.

    `weight` is the canary's percent as the live objects have it, None when they do not tell.
    `missing` is a sentence about what the cluster lacks, empty when nothing is missing.
    """

    is_programmed: bool = True
    weight: int | None = 0
    missing: str = ""
    message: str = ""
