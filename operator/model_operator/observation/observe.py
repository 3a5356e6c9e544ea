"""From cached objects to what a decision looks at."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import orjson

from model_operator.api.hooks import GateAnswer
from model_operator.api.json import Body
from model_operator.api.names import REVISION, REVISION_SPEC, STABLE_SPEC
from model_operator.api.resource import ModelDeployment
from model_operator.api.values import replace
from model_operator.observation.job_results import hindrances, measured
from model_operator.observation.pod_failures import (
    autoscaler_problem,
    deployment_problem,
    ended_pod_problem,
    pod_problem,
)
from model_operator.observation.values import (
    FrontView,
    ModelReport,
    Observed,
    PodProblem,
    RetrainView,
    RevisionView,
    Traffic,
    Verdict,
)
from model_operator.routers import RouterState, router_for

Children = Mapping[tuple[str, str], Body]


def observe(
    resource: ModelDeployment,
    children: Children,
    *,
    models: Mapping[str, ModelReport],
    traffic: Traffic | None,
    verdict: Verdict,
    missing_kinds: frozenset[str],
    gates: Mapping[str, GateAnswer],
    retrain: RetrainView,
    refusal: str = "",
) -> Observed:
    """Return what is seen of a ModelDeployment.

    Args:
        models: what the servers said of their models, by revision.
        missing_kinds: kinds that the cluster does not know.
        retrain: whether the live model should be trained again.
        refusal: what the API server has against an object of ours.
        gates: what the gates said of the point where the rollout waits, by name.
    """
    revisions = revision_views(children, models)
    front = front_view(children.get(("Service", resource.name)))
    stable, canary = resource.status.stable, resource.status.canary
    router = router_for(resource.spec.routing)
    kinds = {kind.kind for kind in router.kinds}
    state = RouterState(
        objects={key: body for key, body in children.items() if key[0] in kinds},
        missing_kinds=missing_kinds,
        stable_ready=revisions[stable].ready if stable in revisions else 0,
        canary_ready=revisions[canary].ready if canary in revisions else 0,
        front_is_wide=front.selects_all_revisions,
    )
    route = router.observe(resource.name, canary, state)
    return Observed(
        revisions=revisions,
        front=front,
        route=route,
        traffic=traffic,
        verdict=verdict,
        gates=gates,
        retrain=retrain,
        refusal=refusal,
        missing_kinds=missing_kinds,
        measurements=measured(children),
        hindrances=hindrances(children),
    )


def revision_views(children: Children, models: Mapping[str, ModelReport]) -> Mapping[str, RevisionView]:
    """Return what is seen of each revision that has a Deployment, a Service or pods."""
    pods: dict[str, list[Body]] = defaultdict(list)
    ended: dict[str, list[Body]] = defaultdict(list)
    deployments: dict[str, Body] = {}
    sources: dict[str, Body] = {}
    autoscalers: dict[str, PodProblem | None] = {}
    for (kind, _), body in children.items():
        revision = (body["metadata"].get("labels") or {}).get(REVISION)
        if revision is None:
            continue
        if kind == "Pod":
            (ended if has_ended(body) else pods)[revision].append(body)
        elif kind == "Deployment":
            deployments[revision] = body
        elif kind == "HorizontalPodAutoscaler":
            autoscalers[revision] = autoscaler_problem(body.get("status") or {})
        if REVISION_SPEC in (body["metadata"].get("annotations") or {}):
            sources[revision] = source_of(body)
    for revision, source in _stable_source(children):
        sources.setdefault(revision, source)
    views = (
        _view(revision, deployments.get(revision), pods[revision], sources.get(revision), models.get(revision))
        for revision in sorted({*pods, *deployments, *sources})
    )
    return {
        view.revision: replace(
            view,
            autoscaler=autoscalers.get(view.revision),
            ended=tuple(ended_pod_problem(pod.get("status") or {}) for pod in ended[view.revision]),
        )
        for view in views
    }


def _stable_source(children: Children) -> Iterator[tuple[str, Body]]:
    """Yield name and source of the stable revision, where the front Service keeps them."""
    for (kind, _), body in children.items():
        text = (body["metadata"].get("annotations") or {}).get(STABLE_SPEC) if kind == "Service" else None
        if text:
            kept = orjson.loads(text)
            yield kept["revision"], kept["source"]


def source_of(body: Body) -> Body:
    """Return the part of the spec that a revision's Deployment or Service remembers."""
    source: Body = orjson.loads(body["metadata"]["annotations"][REVISION_SPEC])
    return source


def front_view(service: Body | None) -> FrontView:
    """Return whom the front Service selects."""
    if service is None:
        return FrontView()
    return FrontView(exists=True, revision=service["spec"].get("selector", {}).get(REVISION))


def has_ended(pod: Body) -> bool:
    """Whether a pod will never run again: evicted, out of its deadline, or on a node that shut down.

    Its object stays, for users to read, long after its ReplicaSet has replaced it.
    """
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def is_ready(pod: Body) -> bool:
    """Whether a pod takes requests: ready, and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions", ())
    is_up = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return is_up and "deletionTimestamp" not in pod["metadata"]


def _view(
    revision: str,
    deployment: Body | None,
    pods: Sequence[Body],
    source: Body | None,
    report: ModelReport | None,
) -> RevisionView:
    status = (deployment or {}).get("status") or {}
    problems = [
        problem
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and (problem := pod_problem(pod.get("status") or {}))
    ]
    refusal = deployment_problem(status)
    if refusal:
        problems.append(refusal)
    is_current = deployment is not None and (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )
    ready = sum(map(is_ready, pods))
    return RevisionView(
        revision=revision,
        desired=deployment["spec"].get("replicas") if deployment else None,
        pods=len(pods),
        ready=ready,
        # The Deployment's own count honours minReadySeconds, but lags behind a pod that just failed.
        available=min(status.get("availableReplicas", 0), ready) if deployment else 0,
        is_current=is_current,
        problems=tuple(problems),
        source=source,
        model=report.model if report else None,
        changed_fingerprint=report.changed_fingerprint if report else "",
    )
