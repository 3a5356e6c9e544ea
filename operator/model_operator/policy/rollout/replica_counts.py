"""The number of pods of each revision: one formula for weights, sizes and autoscaling."""

import math
from collections.abc import Mapping

from model_operator.api.status import Mode, Phase
from model_operator.api.steps import SetCanaryScale
from model_operator.api.strategy import BlueGreen, Canary
from model_operator.policy.rollout.context import RolloutContext


def replica_ratio(total: int, percent: int, surge: int, unavailable: int = 0) -> tuple[int, int]:
    """Return (canary, stable) pods whose share comes nearest to a weight.

    Args:
        total: pods wanted in all, at least 1.
        percent: weight of the canary, 0-100.
        surge: pods that may exist above `total`.
        unavailable: pods that may be missing from `total`.

    The canary's share `canary / (canary + stable)` is as near to `percent` as whole pods allow, with
    the sum in `total - unavailable .. total + surge`; a weight strictly between 0 and 100 leaves
    both at least one pod. With equal distance the sum nearest to `total` wins.
    """
    if percent <= 0:
        return 0, total
    if percent >= 100:
        return total, 0
    candidates = [
        (abs(canary / whole - percent / 100), abs(whole - total), whole, canary)
        for whole in range(max(total - unavailable, 2), max(total + surge, 2) + 1)
        for canary in {math.floor(whole * percent / 100), math.ceil(whole * percent / 100), 1}
        if 1 <= canary <= whole - 1
    ]
    _, _, whole, canary = min(candidates)
    return canary, whole - canary


def resolve(bound: int | str, total: int) -> int:
    """Turn `maxSurge` into pods: a number stays, a percentage of `total` is rounded up, as in Deployments."""
    if isinstance(bound, int):
        return bound
    return math.ceil(int(bound.removesuffix("%")) * total / 100)


def full_size(s: RolloutContext) -> int:
    """Return the desired number of pods outside of a rollout: replicas, or the size set by the autoscaler."""
    scaling = s.spec.autoscaling
    if s.status.phase is Phase.SLEEPING:
        return 0
    if scaling is None:
        return s.spec.replicas
    if autoscaler_is_suspended(s):
        live = s.status.rollout_replicas or s.stable_view.desired or scaling.fewest_awake
    else:
        # During a rollout, stable's autoscaler shrinks it with its traffic; that is not the size of the model.
        before = s.status.rollout_replicas if s.status.canary else 0
        live = max(before, s.stable_view.desired or 0) or s.canary_view.desired or scaling.fewest_awake
    return min(max(live, scaling.fewest_awake), scaling.max_replicas)


def rollback_size(s: RolloutContext) -> int:
    """Return the pods that stable needs for all traffic: the size of the model, or that of a larger canary."""
    scaling, size = s.spec.autoscaling, full_size(s)
    if scaling is None:
        return size
    return min(max(size, s.canary_view.desired or 0), scaling.max_replicas)


def pods_are_the_split(s: RolloutContext) -> bool:
    """Whether the share of the traffic is the share of the pods."""
    return not s.splits_requests and not isinstance(s.spec.strategy, BlueGreen)


def autoscaler_is_suspended(s: RolloutContext) -> bool:
    """Whether the size is fixed at that of the rollout's start: an autoscaler would shift traffic with the pods."""
    return bool(s.status.canary) and pods_are_the_split(s)


def sizes(s: RolloutContext) -> Mapping[str, int]:
    """Return the desired pods of each active revision; every other revision has none."""
    status, total = s.status, full_size(s)
    if not status.canary:
        replicas = {status.previous: previous_size(s, total), status.stable: total}
    else:
        canary, stable = canary_and_stable(s, total)
        replicas = {status.stable: stable, status.canary: canary}
    replicas.pop("", None)
    if is_route_behind(s):
        # First the weight, then the pods: no revision loses pods in the pass that shifts its traffic.
        return {name: max(size, s.observed.revision(name).desired or 0) for name, size in replicas.items()}
    return replicas


def is_route_behind(s: RolloutContext) -> bool:
    """Whether the router's objects do not have the applied weight yet."""
    weight = s.observed.route.weight
    return s.splits_requests and weight is not None and weight != s.status.weights.applied


def previous_size(s: RolloutContext, total: int) -> int:
    """Return the size of the draining revision: unchanged until the delay is over."""
    if s.since(s.status.drain_started_at) >= s.scale_down_delay:
        return 0
    return s.observed.revision(s.status.previous).desired or total


def canary_and_stable(s: RolloutContext, total: int) -> tuple[int, int]:
    """Return (canary, stable) pods during a rollout."""
    status = s.status
    if total == 0:
        return 0, 0
    if status.phase is Phase.ROLLING_BACK or s.is_superseded:
        return _leaving_size(s), rollback_size(s)
    goal = canary_goal(s, total)
    if not pods_are_the_split(s):
        return goal, total
    return _within_bounds(s, total, goal)


def canary_goal(s: RolloutContext, total: int) -> int:
    """Return the pods that the canary must reach before the rollout continues."""
    if total == 0:
        return 0
    if s.status.phase is Phase.PROMOTING or s.status.mode is not Mode.STEPS or not isinstance(s.spec.strategy, Canary):
        return total
    percent = max(s.status.weights.desired, s.status.weights.applied)
    if s.splits_requests:
        return _scaled_canary(s, total, percent)
    return max(1, replica_ratio(total, percent, *_bounds(s, total))[0])


def _within_bounds(s: RolloutContext, total: int, goal: int) -> tuple[int, int]:
    """Return the current sizes on the way to the goal, where the number of pods splits the traffic.

    Never more than `total + maxSurge` pods, never fewer ready ones than `total - maxUnavailable`:
    stable shrinks only as the canary's pods become ready, the canary grows only within the free capacity.
    """
    surge, unavailable = _bounds(s, total)
    stable_live = total if s.stable_view.desired is None else s.stable_view.desired
    # Without surge, stable first gives up the pods that may be unavailable.
    canary = min(goal, max(total + surge - stable_live, 0 if unavailable else 1))
    _, stable_goal = replica_ratio(total, s.status.weights.applied, surge, unavailable)
    if s.observed.front.selects_all_revisions:
        return canary, min(total, max(stable_goal, total - unavailable - s.canary_view.available))
    most = total if surge else total - min(unavailable, 1)
    return canary, min(most, max(stable_goal, min(stable_live, total)))


def _bounds(s: RolloutContext, total: int) -> tuple[int, int]:
    """Return (surge, unavailable) in pods; a rolling update surges as Deployments do by default."""
    if isinstance(s.spec.strategy, Canary):
        return resolve(s.spec.strategy.max_surge, total), resolve(s.spec.strategy.max_unavailable, total)
    return resolve("25%", total), 0


def _leaving_size(s: RolloutContext) -> int:
    """Return the size of a canary that is being removed: unchanged until its traffic has shifted away."""
    if not s.splits_requests and s.status.weights.applied == 0:
        return 0
    return s.canary_view.desired or 0


def _scaled_canary(s: RolloutContext, total: int, percent: int) -> int:
    by_weight = max(1, math.ceil(total * percent / 100))
    scale = next((step for step in reversed(s.done_steps) if isinstance(step, SetCanaryScale)), None)
    if scale is None:
        return by_weight
    if scale.replicas is not None:
        return max(scale.replicas, 1 if percent else 0)
    if scale.weight is not None:
        return max(1, math.ceil(total * scale.weight / 100))
    return by_weight


def has_goal_size(s: RolloutContext) -> bool:
    """Whether the canary has all its pods available."""
    return s.canary_view.is_current and s.canary_view.available >= canary_goal(s, full_size(s))


def may_take_weight(s: RolloutContext) -> bool:
    """Whether the canary has the pods for more weight.

    Where the number of pods splits the traffic, the weight itself adds them, pod by pod.
    """
    if pods_are_the_split(s):
        return s.canary_view.available > 0
    return s.canary_view.available >= canary_goal(s, full_size(s))
