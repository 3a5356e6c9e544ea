"""Renders a plan: yields every object of one ModelDeployment. Pure."""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from model_operator.api.json import JsonObject
from model_operator.api.names import revision_name, versions_name
from model_operator.api.resource import ModelDeployment
from model_operator.api.spec import parse_server
from model_operator.manifests.evaluation import evaluation_job
from model_operator.manifests.metadata import owned_object
from model_operator.manifests.monitoring import monitoring_objects
from model_operator.manifests.pods import VERSIONS_FILE, PodSettings
from model_operator.manifests.standby import standby_slices
from model_operator.manifests.workload import (
    autoscaler,
    consumers,
    deployment,
    disruption_budget,
    front_service,
    revision_service,
    versions,
)
from model_operator.observation.values import Observed
from model_operator.policy.decide import Plan
from model_operator.policy.rollout.evaluation import Evaluation
from model_operator.routers import OWNED_FIELDS, router_for

Children = Mapping[tuple[str, str], Mapping[str, Any]]
#: Fields of `spec` that are ours as a whole, by kind: what is added there changes who gets which requests.
EXCLUSIVELY_OWNED_FIELDS = {"Service": ("selector",), **OWNED_FIELDS}


def render(
    resource: ModelDeployment, plan: Plan, observed: Observed, live: Children, settings: PodSettings
) -> Iterator[Sequence[JsonObject]]:
    """Yield the objects in stages, which are written one after the other; the objects of a stage are independent.

    Deployments grow before the traffic shifts, and the traffic shifts before Deployments shrink: the front Service and
    the routes come between the Deployments that get more pods and those that get fewer.
    """
    revisions = [*plan.sizes, *plan.kept]
    growing = [revision for revision in revisions if not _shrinks(plan, observed, revision)]
    shrinking = [revision for revision in revisions if revision not in growing]
    schemes = _schemes(resource, plan, observed)
    services = list(_services(resource, plan, observed, live, schemes))
    absent = [service for service in services if ("Service", service["metadata"]["name"]) not in live]
    grown = [
        body for revision in growing for body in _revision_objects(resource, plan, observed, live, settings, revision)
    ]
    budget = [disruption_budget(resource)] if sum(plan.sizes.values()) > 1 else []
    known = _versions(resource, plan, revisions, live)
    leading = [
        *known,
        *_revision_services(resource, plan, observed, live, revisions),
        *absent,
        *_standby(resource, plan, live, schemes),
    ]
    yield [*grown, *budget, *leading]
    consuming = list(_consumers(resource, plan, observed))
    yield [*(service for service in services if service not in absent), *consuming]
    router = router_for(resource.spec.routing)
    yield [
        owned_object(resource, one.kind.api_version, one.kind.kind, one.name, one.content)
        for one in router.desired(resource.name, resource.key.namespace, plan.split)
    ]
    yield [
        *(job for one in plan.evaluations for job in _evaluation_job(resource, one, plan, observed, live, settings)),
        *(dict(live[job]) for job in [("Job", plan.retraining)] if job in live),
        *(
            body
            for revision in shrinking
            for body in _revision_objects(resource, plan, observed, live, settings, revision)
        ),
        *monitoring_objects(resource, schemes, dict(settings.monitoring_labels)),
    ]


def _services(
    resource: ModelDeployment, plan: Plan, observed: Observed, live: Children, schemes: Set[str]
) -> Iterator[JsonObject]:
    """Yield the front Service and the preview Service."""
    stable = plan.split.stable or plan.target
    source = _source(resource, plan, observed, stable)
    has_own = ("Service", revision_name(resource.name, stable)) in live or _needs_services(resource)
    memory = None if source is None or has_own else (stable, source)
    yield front_service(resource, resource.name, plan.front, schemes, stable=memory)
    if plan.preview:
        yield front_service(resource, f"{resource.name}-preview", plan.preview, schemes)


def _standby(resource: ModelDeployment, plan: Plan, live: Children, schemes: Set[str]) -> Iterator[JsonObject]:
    """Yield the EndpointSlices of the activators, for the front Service and for that to which a route leads."""
    if plan.standby is not None:
        services = [resource.name]
        if router_for(resource.spec.routing).splits_requests:
            services.append(revision_name(resource.name, plan.split.stable))
        yield from standby_slices(resource, services, plan.standby.port, plan.standby.endpoints, schemes, live)


def _consumers(resource: ModelDeployment, plan: Plan, observed: Observed) -> Iterator[JsonObject]:
    """Yield the list of the revisions that consume messages: those that the front Service or the router leads to.

    A canary without a share of the requests consumes nothing; with one, its share of the messages is that of its pods.
    """
    sources = [_source(resource, plan, observed, revision) for revision in (*plan.sizes, *plan.kept)]
    if any(source is not None and parse_server(source["server"]).stream for source in sources):
        yield consumers(resource, consuming_revisions(plan))


def _versions(resource: ModelDeployment, plan: Plan, revisions: Sequence[str], live: Children) -> Iterator[JsonObject]:
    """Yield the versions of revisions of an alias. What was written once of a revision stays, whatever a pod says."""
    existing = live.get(("ConfigMap", versions_name(resource.name)), {}).get("data", {}).get(VERSIONS_FILE, "")
    written = dict(pair for line in existing.splitlines() if len(pair := line.split()) == 2)
    known = {**plan.registered, **written}
    by_revision = {revision: known[revision] for revision in revisions if revision in known}
    if by_revision:
        yield versions(resource, by_revision)


def consuming_revisions(plan: Plan) -> list[str]:
    """Return the revisions with a share of the traffic."""
    behind = [revision for revision, size in plan.sizes.items() if size] if plan.front is None else [plan.front]
    canary = [plan.split.canary] if plan.split.canary and plan.split.weight > 0 else []
    return sorted({*behind, *canary})


def _revision_services(
    resource: ModelDeployment, plan: Plan, observed: Observed, live: Children, revisions: Sequence[str]
) -> Iterator[JsonObject]:
    """Yield a Service for each revision that a route refers to, or that a ServiceMonitor selects.

    Allocating a ClusterIP is the slowest write of all, so other revisions get no Service; an existing one stays.
    """
    for revision in revisions:
        source = _source(resource, plan, observed, revision)
        exists = ("Service", revision_name(resource.name, revision)) in live
        if source is not None and (exists or _needs_services(resource)):
            yield revision_service(resource, revision, source)


def _needs_services(resource: ModelDeployment) -> bool:
    return router_for(resource.spec.routing).splits_requests or resource.spec.service_monitor


def _evaluation_job(
    resource: ModelDeployment,
    evaluation: Evaluation,
    plan: Plan,
    observed: Observed,
    live: Children,
    settings: PodSettings,
) -> Iterator[JsonObject]:
    existing = live.get(("Job", evaluation.job))
    source = _source(resource, plan, observed, evaluation.revision)
    if existing is not None:
        yield dict(existing)  # the template of a Job is immutable
    elif source is not None:
        yield evaluation_job(resource, evaluation.job, evaluation.revision, source, evaluation.step, settings)


def _schemes(resource: ModelDeployment, plan: Plan, observed: Observed) -> Set[str]:
    """Return the schemes of the existing revisions, except of those whose source is lost."""
    sources = [_source(resource, plan, observed, revision) for revision in (*plan.sizes, *plan.kept)]
    schemes = {parse_server(source["server"]).scheme for source in sources if source is not None}
    return schemes or {resource.spec.server.scheme}


def _shrinks(plan: Plan, observed: Observed, revision: str) -> bool:
    return plan.sizes.get(revision, 0) < (observed.revision(revision).desired or 0)


def _revision_objects(
    resource: ModelDeployment,
    plan: Plan,
    observed: Observed,
    live: Children,
    settings: PodSettings,
    revision: str,
) -> Iterator[JsonObject]:
    source = _source(resource, plan, observed, revision)
    if source is None:
        return  # every object that stores it was deleted by hand
    size = plan.sizes.get(revision, 0)
    existing = live.get(("Deployment", revision_name(resource.name, revision)))
    scaling = resource.spec.autoscaling
    is_autoscaled = scaling is not None and revision in plan.autoscaled
    is_stable = revision == plan.split.stable
    if is_autoscaled and existing is not None:
        live_size = existing["spec"].get("replicas", size) or size
        size = max(live_size, size) if is_stable and plan.is_returning else live_size
    yield deployment(
        resource, revision, source, replicas=size, role=_role(plan, revision), settings=settings, live=existing
    )
    if scaling is not None and is_autoscaled:
        least = scaling.fewest_awake if is_stable and not plan.is_returning else plan.sizes.get(revision, 1)
        yield autoscaler(resource, revision, scaling, least=least)


def _source(resource: ModelDeployment, plan: Plan, observed: Observed, revision: str) -> Mapping[str, Any] | None:
    """Return the source of a revision: the stored one, or the spec if it is the target."""
    remembered = observed.revision(revision).source
    if remembered is None and revision == plan.target:
        return resource.spec.revision_source
    return remembered


def _role(plan: Plan, revision: str) -> str:
    if revision == plan.split.stable:
        return "stable"
    return "canary" if revision == plan.split.canary else "previous"
