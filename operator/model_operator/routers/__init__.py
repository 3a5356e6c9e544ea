"""Who splits the traffic: one file a router, all with the same two functions.

`desired` says which objects shall exist for a split, `observe` what the live ones tell of it.
"""

from collections.abc import Mapping
from typing import Protocol

from model_operator.api.json import Body
from model_operator.api.strategy import GatewayRouting
from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.gateway_api import GatewayApiRouter
from model_operator.routers.replicas import ReplicaRouter
from model_operator.routers.state import Seen

__all__ = ["Router", "Seen", "router_for"]


class Router(Protocol):
    """One way to split the traffic."""

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> Mapping[str, Body]:
        """Return the `spec` of each object that shall exist, by kind; all are named like the model."""

    def observe(self, name: str, canary: str, seen: Seen) -> RouteView:
        """Return whether the last split is in force, and the weight of the revision `canary`."""


def router_for(gateway: GatewayRouting | None) -> Router:
    """Return the router that a spec asks for; without one, the number of pods is the split."""
    return ReplicaRouter() if gateway is None else GatewayApiRouter(gateway)
