"""Routers, which split the traffic: one file for each.

A new router is a module here and a line in `_ROUTERS`, a struct in `api/routing.py`, a line in `clients/kinds.py` for
each kind that it writes, and a field of `trafficRouting` in the resource definition.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from model_operator.api.routing import GatewayRouting, Routing
from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.gateway_api import GatewayApiRouter
from model_operator.routers.replicas import ReplicaRouter
from model_operator.routers.state import FrontAddress, RouterKind, RouterObject, RouterState

__all__ = ["OWNED_FIELDS", "FrontAddress", "Router", "RouterKind", "RouterObject", "RouterState", "router_for"]


class Router(Protocol):
    """A way to split the traffic between two revisions."""

    @property
    def kinds(self) -> tuple[RouterKind, ...]:
        """Kinds of the objects that the router writes and watches."""

    @property
    def splits_requests(self) -> bool:
        """Whether it splits requests by weight, independent of the number of pods, with a Service of each revision."""

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> Sequence[RouterObject]:
        """Return the desired objects of a split.

        Args:
            name: of the ModelDeployment.
            namespace: of the ModelDeployment.
            split: revisions, weight in percent, and further routes.
        """

    def observe(self, name: str, canary: str, state: RouterState) -> RouteView:
        """Return whether the last split is in effect, and the weight of the revision `canary` in percent."""

    def url(self, front: FrontAddress) -> str:
        """Return the URL of the requests that the router splits."""


#: The router of each struct of `trafficRouting`.
_ROUTERS: Mapping[type[Routing], type[Any]] = {GatewayRouting: GatewayApiRouter}
_BY_REPLICAS = ReplicaRouter()

#: Fields of `spec` that belong to routers as a whole, by kind.
OWNED_FIELDS: Mapping[str, tuple[str, ...]] = {
    kind.kind: kind.owned_fields for router in _ROUTERS.values() for kind in router.kinds
}


def router_for(routing: Routing | None) -> Router:
    """Return the router of a spec; without `trafficRouting` the number of pods is the split."""
    if routing is None:
        return _BY_REPLICAS
    router: Router = _ROUTERS[type(routing)](routing)
    return router
