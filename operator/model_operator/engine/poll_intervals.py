"""How often, and how many of, the pods of a model are read outside of a rollout. PURE; for the metrics collector."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from model_operator.api.resource import ModelDeployment

#: Seconds between polls while pods may terminate: counts since the last sample of a pod are lost with it.
MAX_INTERVAL = timedelta(seconds=15)
#: Time between two looks at whether a model is connected to its broker.
_STREAM_INTERVAL = timedelta(seconds=30)
#: Time between two looks at what servers find in their requests.
_INPUTS_INTERVAL = timedelta(seconds=15)
#: Time between two looks at whether a model trusts its estimated quality.
_ESTIMATE_INTERVAL = timedelta(seconds=15)
#: Longest time between two looks at whether a model that may sleep has answered requests.
_IDLE_INTERVAL = timedelta(seconds=15)


def may_poll(spec: Mapping[str, Any]) -> bool:
    """Whether a raw spec has something to poll for: source, broker, requests, trust in the estimate, or idleness."""
    wanted = (
        ("model", "pollInterval"),
        ("server", "stream"),
        ("monitoring", "dataQuality"),
        ("autoscaling", "idleAfter"),
    )
    is_estimated = (spec.get("monitoring") or {}).get("estimatedQuality", False)
    return bool(is_estimated or any(name in (spec.get(part) or {}) for part, name in wanted))


def needs_all_pods(resource: ModelDeployment) -> bool:
    """Whether what is looked for may be in any pod, also outside of a rollout."""
    scaling = resource.spec.autoscaling
    return resource.spec.monitoring.data_quality is not None or (scaling is not None and scaling.idle_after is not None)


def poll_interval(resource: ModelDeployment) -> timedelta | None:
    """Return the time between two polls of servers outside of rollouts; None if there is nothing to poll for."""
    spec = resource.spec
    idle_after = spec.autoscaling.idle_after if spec.autoscaling else None
    intervals = (
        spec.model.poll_interval,
        None if spec.server.stream is None else _STREAM_INTERVAL,
        None if spec.monitoring.data_quality is None else _INPUTS_INTERVAL,
        None if not spec.server.estimated_quality else _ESTIMATE_INTERVAL,
        None if idle_after is None else min(idle_after / 4, _IDLE_INTERVAL),
    )
    return min((one for one in intervals if one is not None), default=None)
