"""HorizontalPodAutoscalers as on a cluster without a metrics server: bounds hold, metrics are missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from model_sandbox.cache import Resource
from model_sandbox.client import ApiFailure, Obj
from model_sandbox.controllers.base import AUTOSCALERS, World, status_of, with_condition

PERIOD = 15.0  # seconds
_UNABLE = "the HPA was unable to compute the replica count: "
_TARGET = "the HPA controller was {}able to get the target's current scale"


async def reconcile(find: Callable[[str, str], Resource | None], world: World, body: Obj) -> float | None:
    """One autoscaler, looked at every 15 seconds as on a cluster; `find` knows kinds by apiVersion and name."""
    target, before = body["spec"]["scaleTargetRef"], status_of(body)
    resource, path = find(target.get("apiVersion", ""), target["kind"]), ""
    scale: Obj | None = None
    problem = f'no matches for kind "{target["kind"]}" in group version'
    if resource is not None:
        path = resource.path(body["metadata"]["namespace"], target["name"], "scale")
        try:
            scale = await world.client.send("GET", path)
        except ApiFailure as failure:
            problem = str(failure.body.get("message", ""))
    status, wanted = decide(body, scale, problem, datetime.now(UTC))
    if wanted is not None:
        await world.client.merge(path, {"spec": {"replicas": wanted}})
        side = "above Spec.MaxReplicas" if wanted == body["spec"]["maxReplicas"] else "below Spec.MinReplicas"
        told = f"New size: {wanted}; reason: Current number of replicas {side}"
        await world.event(body, "SuccessfulRescale", told)
    status = {"desiredReplicas": before.get("desiredReplicas", 0), **status}
    await world.report(AUTOSCALERS, body, status)
    return PERIOD


def decide(body: Obj, scale: Obj | None, problem: str, now: datetime) -> tuple[Obj, int | None]:
    """The status of an autoscaler, and the size to set. Without a scale, the problem says why."""

    def told(held: list[Obj], kind: str, state: bool, reason: str, message: str) -> list[Obj]:
        return with_condition(held, kind, state, reason, message, now=now)

    before = status_of(body)
    if scale is None:
        message = f"{_TARGET.format('un')}: {problem}"
        status = {"currentReplicas": before["currentReplicas"]} if before.get("currentReplicas") else {}
        return {**status, "conditions": told([], "AbleToScale", False, "FailedGetScale", message)}, None
    replicas, current = (scale.get("spec") or {}).get("replicas", 0), status_of(scale).get("replicas", 0)
    held = told(before.get("conditions") or [], "AbleToScale", True, "SucceededGetScale", _TARGET.format(""))
    if not replicas:
        message = "scaling is disabled since the replica count of the target is zero"
        return {"conditions": told(held, "ScalingActive", False, "ScalingDisabled", message)}, None
    status = {"currentReplicas": current or replicas}
    wanted = min(max(replicas, body["spec"].get("minReplicas", 1)), body["spec"]["maxReplicas"])
    if wanted != replicas:
        message = f"the HPA controller was able to update the target scale to {wanted}"
        held = told(held, "AbleToScale", True, "SucceededRescale", message)
        return {**status, "desiredReplicas": wanted, "conditions": held}, wanted
    metrics = body["spec"].get("metrics") or []
    if metrics:
        held = told(held, "ScalingActive", False, *missing(metrics[0]))
        status["currentMetrics"] = [{"type": ""} for _ in metrics]
    return {**status, "conditions": held}, None


def missing(metric: Obj) -> tuple[str, str]:
    """Reason and message for a metrics API that is not there; a cluster names the API of the first metric."""
    kind = metric["type"]
    if kind in ("Resource", "ContainerResource"):
        name = metric["resource" if kind == "Resource" else "containerResource"]["name"]
        lost = "the server could not find the requested resource (get pods.metrics.k8s.io)"
        api = f"unable to fetch metrics from resource metrics API: {lost}"
        return (
            f"FailedGet{kind}Metric",
            f"{_UNABLE}failed to get {name} utilization: unable to get metrics for resource {name}: {api}",
        )
    name = metric[kind.lower()]["metric"]["name"]
    api = "external" if kind == "External" else "custom"
    lost = f"no {api} metrics API ({api}.metrics.k8s.io) registered"
    return (
        f"FailedGet{kind}Metric",
        f"{_UNABLE}unable to get metric {name}: unable to fetch metrics from {api} metrics API: {lost}",
    )
