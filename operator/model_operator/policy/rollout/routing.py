"""The desired routing: the selector of the front Service and the weights of the router."""

import hashlib

from model_operator.api.status import Phase
from model_operator.api.traffic import TrafficSplit
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replica_counts import rollback_size


def split_of(s: RolloutContext) -> TrafficSplit:
    """Return the desired split under the current status.

    Header and mirror routes need a canary with a ready pod, and are removed at the start of a rollback.
    """
    status = s.status
    if not status.canary:
        return TrafficSplit(stable=status.stable)
    is_leaving = status.phase is Phase.ROLLING_BACK or s.is_superseded
    if is_leaving or s.canary_view.ready == 0:
        return TrafficSplit(stable=status.stable, canary=status.canary, weight=status.weights.applied)
    return TrafficSplit(
        stable=status.stable,
        canary=status.canary,
        weight=status.weights.applied,
        header_matches=s.header_matches,
        mirror_percent=s.mirror_percent,
        # A revision with all requests serves every user.
        stickiness=s.spec.stickiness if 0 < status.weights.applied < 100 else None,
        warm_value=_warm_value(s),
    )


def _warm_value(s: RolloutContext) -> str:
    """Return what no client sends: nobody outside of the cluster knows the UID."""
    return hashlib.sha256(f"{s.resource.uid}/{s.status.canary}".encode()).hexdigest()[:32]


def front_revision(s: RolloutContext) -> str | None:
    """Return the revision that the front Service must select, None for all of them.

    The selector narrows only when the remaining pods have the capacity for all requests, and a canary at weight 0
    receives no request.
    """
    status, front = s.status, s.observed.front
    has_traffic = bool(status.canary) and status.weights.applied > 0
    if has_traffic and (not s.splits_requests or status.phase is Phase.PROMOTING):
        return None
    if not front.exists or front.revision == status.stable or _stable_suffices(s):
        return status.stable
    others_ready = any(v.ready for v in s.observed.revisions.values() if v.revision != status.stable)
    is_narrow_elsewhere = front.revision is not None
    return None if is_narrow_elsewhere or others_ready else status.stable


def _stable_suffices(s: RolloutContext) -> bool:
    """Whether a front Service that selects all revisions may select stable while a router splits the requests.

    The selector is that wide if the number of pods was the split before the router was added to the spec.
    """
    is_wide_in_rollout = bool(s.status.canary) and s.observed.front.selects_all_revisions
    return is_wide_in_rollout and s.splits_requests and s.stable_view.available >= rollback_size(s) > 0
