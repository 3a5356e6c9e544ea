"""The disruption controller: how many pods of a PodDisruptionBudget may be missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from model_sandbox.apiserver.selectors import match_selector
from model_sandbox.cache import controller_of
from model_sandbox.client import Obj
from model_sandbox.controllers import pods as about
from model_sandbox.controllers.base import BUDGETS, DEPLOYMENTS, REPLICASETS, World, status_of, with_condition
from model_sandbox.controllers.labels import Labelled, Labels, labels_of


def labels(budget: Obj) -> Labels | None:
    """The labels that a budget selects by, which its expressions narrow down; None without a selector."""
    selector = budget["spec"].get("selector")
    return None if selector is None else selector.get("matchLabels") or {}


async def reconcile(by_label: Labelled, world: World, budget: Obj) -> float | None:
    """One budget; `by_label` finds pods."""
    selector, wanted = budget["spec"].get("selector"), labels(budget)
    found = [] if wanted is None else by_label.having(budget["metadata"]["namespace"], wanted)
    pods = [pod for pod in found if not about.is_finished(pod) and match_selector(selector, labels_of(pod))]
    status = numbers(budget, pods, _expected(world, pods))
    enough = status["disruptionsAllowed"] > 0
    status["conditions"] = with_condition(
        status_of(budget).get("conditions"),
        "DisruptionAllowed",
        enough,
        "SufficientPods" if enough else "InsufficientPods",
        now=datetime.now(UTC),
        observedGeneration=status["observedGeneration"],
    )
    await world.report(BUDGETS, budget, status)
    return None


def numbers(budget: Obj, pods: Sequence[Obj], expected: int) -> Obj:
    """The numbers of a budget's status. `expected` counts what the pods' controllers ask for."""
    most, least = budget["spec"].get("maxUnavailable"), budget["spec"].get("minAvailable")
    healthy = sum(about.is_ready(pod) and not about.is_terminating(pod) for pod in pods)
    if most is not None:
        desired = max(0, expected - _share(most, expected))
    else:
        expected = len(pods) if isinstance(least, int) else expected
        desired = _share(least or 0, expected)
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": max(0, healthy - desired) if expected else 0,
        "observedGeneration": budget["metadata"]["generation"],
    }


def _share(value: Any, total: int) -> int:
    return math.ceil(int(value.removesuffix("%")) * total / 100) if isinstance(value, str) else int(value)


def _expected(world: World, pods: Sequence[Obj]) -> int:
    """How many pods the controllers of these pods ask for together."""
    wanted: dict[str, int] = {}
    for pod in pods:
        top = pod
        for resource in (REPLICASETS, DEPLOYMENTS):
            owner = controller_of(top)
            top = (world[resource].get(pod["metadata"]["namespace"], owner["name"]) if owner else None) or top
        wanted[top["metadata"]["uid"]] = 1 if top is pod else top["spec"].get("replicas", 1)
    return sum(wanted.values())
