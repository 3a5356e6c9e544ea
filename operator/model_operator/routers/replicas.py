"""The split by the number of pods behind the front Service: no object of its own, works on every cluster.

The share is that of connections, not of requests (kube-proxy picks a pod for each connection), and as
coarse as whole pods are.
"""

from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.state import FrontAddress, RouterKind, RouterObject, RouterState


class ReplicaRouter:
    """Sizes and the front Service's selector are the split."""

    kinds: tuple[RouterKind, ...] = ()
    splits_requests = False

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> tuple[RouterObject, ...]:
        """There is nothing to write."""
        return ()

    def observe(self, name: str, canary: str, state: RouterState) -> RouteView:
        """Return the share that the ready pods give to the canary."""
        total = state.stable_ready + state.canary_ready
        if not state.front_is_wide or total == 0:
            return RouteView(weight=0)
        return RouteView(weight=round(100 * state.canary_ready / total))

    def url(self, front: FrontAddress) -> str:
        """Return the address of the front Service."""
        return front.url
