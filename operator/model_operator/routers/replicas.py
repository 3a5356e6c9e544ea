"""The split by the number of pods behind the front Service: no object of its own, works on every cluster.

The share is that of connections, not of requests (kube-proxy picks a pod for each connection), and as
coarse as whole pods are.
"""

from collections.abc import Mapping
from typing import Any

from model_operator.api.traffic import RouteView, TrafficSplit
from model_operator.routers.state import Seen


class ReplicaRouter:
    """Sizes and the front Service's selector are the split."""

    def desired(self, name: str, namespace: str, split: TrafficSplit) -> Mapping[str, Mapping[str, Any]]:
        """There is nothing to write."""
        return {}

    def observe(self, name: str, canary: str, seen: Seen) -> RouteView:
        """Return the share that the ready pods give to the canary."""
        total = seen.stable_ready + seen.canary_ready
        if not seen.front_is_wide or total == 0:
            return RouteView(weight=0)
        return RouteView(weight=round(100 * seen.canary_ready / total))
