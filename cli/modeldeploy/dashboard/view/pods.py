"""What the dashboard keeps of a pod, and of an Event. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from modeldeploy.fleet.quantities import NOTHING, Resources, requested_by
from modeldeploy.plain import plain
from modeldeploy.rollout import GROUP

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of a model. `state` is its phase, or why it waits; `scheme` and `port` are where its server listens."""

    namespace: str
    name: str
    model: str
    revision: str
    state: str
    is_ready: bool
    restarts: int
    node: str
    address: str
    image: str
    scheme: str
    port: int
    requested: Resources = NOTHING
    #: A server of the user's own (`spec.server.container`) runs in it, behind ours.
    is_metered: bool = False

    @classmethod
    def from_body(cls, body: Body) -> Self:
        """Read a pod of the API server."""
        body = plain(body)
        metadata, status, spec = body["metadata"], body.get("status") or {}, body.get("spec") or {}
        labels = metadata.get("labels") or {}
        containers = status.get("containerStatuses") or ()
        scheme = labels.get(f"{GROUP}/scheme", "http")
        server: Body = next((one for one in spec.get("containers") or () if one.get("name") == "server"), {})
        ports = {one.get("name"): one["containerPort"] for one in server.get("ports") or ()}
        waiting = ((one.get("state") or {}).get("waiting") or {} for one in containers)
        reason = next((one["reason"] for one in waiting if one.get("reason")), "")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            model=labels.get(f"{GROUP}/name", ""),
            revision=labels.get(f"{GROUP}/revision", ""),
            state="Terminating" if metadata.get("deletionTimestamp") else reason or status.get("phase", "Pending"),
            is_ready=any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()),
            restarts=sum(one.get("restartCount", 0) for one in containers),
            node=spec.get("nodeName", ""),
            address=status.get("podIP", ""),
            image=server.get("image", ""),
            scheme=scheme,
            port=ports.get(scheme, 8080),
            requested=requested_by(spec.get("containers") or ()),
            is_metered=server.get("args") == ["meter"],
        )

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of its model."""
        return self.namespace, self.model

    @property
    def path(self) -> str:
        """Namespace and name of the pod itself."""
        return f"{self.namespace}/{self.name}"

    @property
    def is_running(self) -> bool:
        """Whether a node keeps what it requests free for it."""
        return bool(self.node) and self.state not in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One Event of a model."""

    name: str
    namespace: str
    model: str
    at: datetime | None
    is_warning: bool
    reason: str
    message: str
    count: int

    @classmethod
    def from_body(cls, body: Body) -> Self:
        """Read an Event of the API server."""
        body = plain(body)
        metadata, about = body["metadata"], body.get("involvedObject") or {}
        at = body.get("lastTimestamp") or body.get("eventTime") or metadata.get("creationTimestamp")
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            model=about.get("name", ""),
            at=datetime.fromisoformat(at) if at else None,
            is_warning=body.get("type") == "Warning",
            reason=body.get("reason", ""),
            message=body.get("message", ""),
            count=int(body.get("count") or 1),
        )

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of its model."""
        return self.namespace, self.model


def ready_of(pods: Sequence[Pod], revision: str) -> tuple[int, int]:
    """Return how many pods of a revision are ready, and how many there are."""
    own = [pod for pod in pods if pod.revision == revision]
    return sum(pod.is_ready for pod in own), len(own)
