"""The split by the number of pods behind the front Service, which needs no further object and works on every cluster.

The weight is a share of connections, since kube-proxy chooses a pod for each connection, and it is only as fine as the
number of pods allows.
"""

from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.state import FrontAddress, RouterKind, RouterObject, RouterState


class ReplicaRouter:
    """The split by numbers of pods and the selector of the front Service."""

    kinds: tuple[RouterKind, ...] = ()
    splits_requests = False

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> tuple[RouterObject, ...]:
        """Return no object."""
        return ()

    def observe(self, name: str, canary: str, state: RouterState) -> RouteView:
        """Return the canary's share of the ready pods as its weight."""
        total = state.stable_ready + state.canary_ready
        if not state.front_selects_all or total == 0:
            return RouteView(weight=0)
        return RouteView(weight=round(100 * state.canary_ready / total))

    def url(self, front: FrontAddress) -> str:
        """Return the address of the front Service."""
        return front.url
