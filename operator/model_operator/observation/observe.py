"""Converts cached objects to an observation."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from types import MappingProxyType

import orjson

from model_operator.api.hooks import GateAnswer
from model_operator.api.json import Body
from model_operator.api.names import REVISION, REVISION_SPEC, STABLE_SPEC
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import ServerInfo
from model_operator.api.values import replace
from model_operator.manifests.outdated import server_info
from model_operator.manifests.pods import PodSettings
from model_operator.observation.job_results import hindrances, measured
from model_operator.observation.pod_failures import (
    autoscaler_problem,
    deployment_problem,
    ended_pod_problem,
    pod_problem,
)
from model_operator.observation.values import (
    ActivatorView,
    FrontView,
    ModelReport,
    Observed,
    PodProblem,
    ReplayView,
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
    asked: Set[str],
    traffic: Traffic | None,
    verdict: Verdict,
    missing_kinds: frozenset[str],
    gates: Mapping[str, GateAnswer],
    retrain: RetrainView,
    replay: ReplayView,
    settings: PodSettings,
    activator: ActivatorView,
    idle_since: datetime | None = None,
    refusal: str = "",
    starting: Mapping[str, str] = MappingProxyType({}),
) -> Observed:
    """Return the observation of a ModelDeployment.

    Args:
        models: models that the servers reported, by revision.
        asked: revisions of which a server was asked, whether it answered or not.
        missing_kinds: kinds that the cluster does not have.
        retrain: whether the live model should be trained again.
        replay: the replay of the current step so far.
        settings: settings of the pod templates that are made now.
        activator: what the activators hold for the model.
        idle_since: time of the last request that its pods counted, None if that is not known.
        refusal: error of the API server about an object of the resource, empty without one.
        starting: what pods that do not become ready say of their start, by revision.
        gates: answers of the gates, by name, for the point at which the rollout waits.
    """
    revisions = {
        name: replace(
            view,
            starting=starting.get(name, ""),
            is_model_pending=view.ready > 0 and view.model is None and name not in asked,
        )
        for name, view in revision_views(children, models, settings).items()
    }
    front = front_view(children.get(("Service", resource.name)))
    stable, canary = resource.status.stable, resource.status.canary
    router = router_for(resource.spec.routing)
    kinds = {kind.kind for kind in router.kinds}
    state = RouterState(
        objects={key: body for key, body in children.items() if key[0] in kinds},
        missing_kinds=missing_kinds,
        stable_ready=revisions[stable].ready if stable in revisions else 0,
        canary_ready=revisions[canary].ready if canary in revisions else 0,
        front_selects_all=front.selects_all_revisions,
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
        replay=replay,
        activator=activator,
        idle_since=idle_since,
        refusal=refusal,
        missing_kinds=missing_kinds,
        measurements=measured(children),
        hindrances=hindrances(children),
    )


def revision_views(
    children: Children, models: Mapping[str, ModelReport], settings: PodSettings
) -> Mapping[str, RevisionView]:
    """Return the observation of each revision that has a Deployment, a Service or pods."""
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
            server=_server(deployments.get(view.revision), view.source, settings),
            ended=tuple(ended_pod_problem(pod.get("status") or {}) for pod in ended[view.revision]),
        )
        for view in views
    }


def _server(deployment: Body | None, source: Body | None, settings: PodSettings) -> ServerInfo | None:
    return None if deployment is None or source is None else server_info(deployment, source, settings)


def _stable_source(children: Children) -> Iterator[tuple[str, Body]]:
    """Yield name and source of the stable revision from the annotation of the front Service."""
    for (kind, _), body in children.items():
        text = (body["metadata"].get("annotations") or {}).get(STABLE_SPEC) if kind == "Service" else None
        if text:
            kept = orjson.loads(text)
            yield kept["revision"], kept["source"]


def source_of(body: Body) -> Body:
    """Return the part of the spec that is stored in a revision's Deployment or Service."""
    source: Body = orjson.loads(body["metadata"]["annotations"][REVISION_SPEC])
    return source


def front_view(service: Body | None) -> FrontView:
    """Return the selection of the front Service."""
    if service is None:
        return FrontView()
    return FrontView(exists=True, revision=service["spec"].get("selector", {}).get(REVISION))


def has_ended(pod: Body) -> bool:
    """Whether a pod has ended for good: evicted, beyond its deadline, or on a node that shut down.

    Its object remains after the ReplicaSet has replaced it.
    """
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def is_ready(pod: Body) -> bool:
    """Whether a pod receives requests: it is ready and does not terminate."""
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
        # The count in the Deployment honours minReadySeconds, but lags behind a pod that just failed.
        available=min(status.get("availableReplicas", 0), ready) if deployment else 0,
        is_current=is_current,
        problems=tuple(problems),
        source=source,
        model=report.model if report else None,
        changed_fingerprint=report.changed_fingerprint if report else "",
        source_problem=report.source_problem if report else None,
        stream=report.stream if report else None,
        inputs=report.inputs if report else None,
        estimate=report.estimate if report else None,
    )
