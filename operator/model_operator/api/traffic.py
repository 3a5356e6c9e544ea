"""The split of the traffic between two revisions: the desired split, and the observed one."""

from collections.abc import Sequence
from dataclasses import dataclass

from model_operator.api.steps import HeaderMatch
from model_operator.api.strategy import Stickiness


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSplit:
    """Desired split of a router.

    Attributes:
        stable: revision that receives the rest of the requests.
        canary: the other revision, empty without one.
        weight: percentage of the requests for the canary, 0-100; with `stickiness`, of the users.
        header_matches: requests with one of these headers go to the canary.
        mirror_percent: percentage of the requests that are copied to the canary.
        stickiness: identification of returning users, each of whom stays with the revision of the first request.
        warm_value: value of the header `routers.gateway_api.WARM`, by which a route names the revision at weight 0,
            so that a router that builds a backend when it gets weight has it before; empty for none.
    """

    stable: str
    canary: str = ""
    weight: int = 0
    header_matches: Sequence[HeaderMatch] = ()
    mirror_percent: int = 0
    stickiness: Stickiness | None = None
    warm_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """Observed split.

    Attributes:
        is_programmed: whether the router has acted on its objects.
        weight: percentage of the canary in the live objects, None if they have none.
        is_warm: whether the router has acted on objects in which the canary is a backend of some rule.
        missing: sentence about the kind that the cluster does not serve, empty if there is none.
        message: sentence about why the router has not acted, empty if it has.
    """

    is_programmed: bool = True
    weight: int | None = 0
    is_warm: bool = True
    missing: str = ""
    message: str = ""
