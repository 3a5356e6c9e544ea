"""The derived fields of status: counts, conditions, the message. A pure function of one context.

`Ready`, `Reconciling` and `Stalled` follow kstatus, so that `kubectl wait`, Flux and Helm can read them
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md). Argo CD does not read kstatus; its
health check is `integrations/argocd/health.lua`.
"""

from collections.abc import Iterator

from model_operator.api.estimate import ESTIMATE_PROBLEMS
from model_operator.api.source import SOURCE_PROBLEMS
from model_operator.api.status import Condition, HistoryEntry, ModelInfo, Phase, PodFailure, Status
from model_operator.api.stream import STREAM_PROBLEMS
from model_operator.api.values import replace
from model_operator.observation.pod_failures import most_severe
from model_operator.policy.analysis.split_verification import is_split_right, observed_percent
from model_operator.policy.analysis.state import is_provider_backed
from model_operator.policy.rollout.annotations import ignored_annotations
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.replica_counts import full_size, sizes
from model_operator.policy.rollout.retraining import retraining
from model_operator.policy.rollout.sleep import can_sleep
from model_operator.policy.status.analysis_status import analysis_status
from model_operator.policy.status.input_quality import data_quality
from model_operator.policy.status.message import status_message, step_column

#: Reason for which a model is not Ready for a moment: no server was asked which model and version it has.
_MODEL_NOT_REPORTED = "ModelNotReported"
ConditionDraft = tuple[str, str, str, str]  # type, status, reason, message


def report(s: RolloutContext, *, url: str) -> Status:
    """Return the status with all fields that are derived from the others and from the observation."""
    counted = s.changed(
        observed_generation=s.resource.generation,
        url=url,
        selector=f"modeldeploy.dev/name={s.resource.name}",
        replicas=sum(sizes(s).values()),
        ready_replicas=sum(view.ready for view in s.observed.revisions.values()),
        model=s.stable_view.model or _declared_model(s),
        # A model that is not live yet runs what was made just now; telling that would be one more write for each.
        server=None if s.status.phase is Phase.PENDING else s.stable_view.server,
        pod_failures=_pod_failures(s),
        step=step_column(s),
        weights=_counted_weights(s),
        analysis=analysis_status(s),
        retraining=retraining(s),
        ignored_annotations=tuple(ignored_annotations(s)),
        history=tuple(_completed(entry, s) for entry in s.status.history),
    )
    s = s.under(counted)
    s = s.under(s.changed(message=status_message(s)))
    return s.changed(conditions=tuple(_conditions(s)))


def _declared_model(s: RolloutContext) -> ModelInfo | None:
    """Return the last reported model of the same revision, until the server reports again."""
    if s.status.model and s.stable_view.revision == s.resource.status.stable:
        return s.status.model
    return None


def _completed(entry: HistoryEntry, s: RolloutContext) -> HistoryEntry:
    """Return an entry of the history with the version that its server reported after the rollout."""
    model = s.observed.revision(entry.revision).model
    if entry.version or model is None or not model.version:
        return entry
    return replace(entry, version=model.version, sha256=entry.sha256 or model.sha256)


def _counted_weights(s: RolloutContext) -> object:
    weights = s.status.weights
    if not s.status.canary or weights.applied_at is None:
        return weights
    if s.has_copies:
        return replace(weights, observed=None, verified=None)
    observed = observed_percent(s.observed.traffic)
    return replace(
        weights,
        observed=weights.observed if observed is None else observed,
        verified=is_split_right(s.observed.traffic, weights.applied) if s.splits_requests else None,
    )


def _pod_failures(s: RolloutContext) -> tuple[PodFailure, ...]:
    """Return one entry for each revision and reason; those of an aborted revision outlive its pods."""
    failures: dict[tuple[str, str], PodFailure] = {}
    alive = {s.status.stable, s.status.canary, s.status.aborted}
    for view in s.observed.revisions.values():
        for problem in (*view.problems, *view.ended) if view.revision in alive else ():
            key = (view.revision, problem.reason)
            counted = failures.get(key)
            failures[key] = PodFailure(
                revision=view.revision,
                reason=problem.reason,
                message=problem.message,
                count=counted.count + 1 if counted else 1,
            )
    present = {revision for revision, _ in failures}
    kept = (f for f in s.status.pod_failures if f.revision == s.status.aborted and f.revision not in present)
    return (*sorted(failures.values(), key=lambda f: (f.revision, f.reason)), *kept)


def _conditions(s: RolloutContext) -> Iterator[Condition]:
    existing, generation = {condition.type: condition for condition in s.status.conditions}, s.resource.generation
    for type_, value, reason, message in _findings(s):
        old = existing.get(type_)
        is_same = old is not None and old.status == value
        if old and is_same and (old.reason, old.message, old.observed_generation) == (reason, message, generation):
            yield old
            continue
        yield Condition(
            type=type_,
            status=value,
            reason=reason,
            message=message,
            last_transition_time=old.last_transition_time if old and is_same else s.now,
            observed_generation=generation,
        )


def _findings(s: RolloutContext) -> Iterator[ConditionDraft]:
    status, message = s.status, s.status.message
    total, available = full_size(s), s.stable_view.available
    is_resting = not status.canary and not status.previous and not status.aborted
    is_waiting = status.phase in (Phase.PENDING, Phase.WAKING) or bool(status.canary or status.previous)
    has_size = available >= total
    is_wanted = s.target == status.stable
    is_held = (s.spec.paused or total == 0) and not is_wanted
    is_failed = status.phase is Phase.DEGRADED

    is_routed = s.observed.route.is_programmed
    is_refused = bool(s.observed.refusal)
    is_asleep = status.phase is Phase.SLEEPING
    is_done = status.phase is Phase.HEALTHY or is_asleep
    # Ready says that status.model is that of the live revision. An operator that starts again takes it from nobody.
    is_told = status.model is not None or not s.stable_view.is_model_pending or _was_ready(s)
    is_ready = is_resting and has_size and is_routed and is_wanted and is_done and is_told and not is_refused
    waits_for = (
        "ApplyFailed"
        if is_refused
        else "ScaledToZero"
        if total == 0 and not is_wanted
        else "RouteNotProgrammed"
        if not is_routed
        else "Scaling"
        if not has_size
        else _MODEL_NOT_REPORTED
    )
    serving = "Sleeping" if is_asleep else "Serving"
    reason = serving if is_ready else waits_for if status.phase is Phase.HEALTHY else str(status.phase)
    yield "Ready", _bool(is_ready), reason, message
    reconciling = not is_failed and not is_ready and not is_held
    yield "Reconciling", _bool(reconciling), str(status.phase) if reconciling else "Idle", message
    yield (
        "Stalled",
        _bool(is_failed or is_refused),
        "ApplyFailed" if is_refused else _failure_reason(s) if is_failed else "NotStalled",
        message if is_failed or is_refused else "",
    )
    yield (
        "Available",
        _bool(available > 0 or total == 0),
        "MinimumReplicasAvailable" if available > 0 or total == 0 else "NoReplicaAvailable",
        f"{available} of {total} pods of {status.stable} are available",
    )
    yield "Progressing", _bool(is_waiting), str(status.phase), message
    is_paused = status.phase is Phase.PAUSED or (s.spec.paused and not is_wanted)
    pause = status.pauses[0].reason if status.pauses else "UserPaused"
    yield "Paused", _bool(is_paused), pause if is_paused else "NotPaused", message if is_paused else ""
    yield _model_loaded(s)
    yield from _autoscaler_active(s)
    yield from _activator_ready(s)
    yield from _route_programmed(s)
    yield from _analysis_healthy(s)
    yield from _monitored(s)
    yield from _source_available(s)
    yield from _stream_connected(s)
    yield from data_quality(s)
    yield from _estimate_trusted(s)
    yield from _annotations_accepted(s)
    yield from _spec_supported(s)


def waits_for_model(status: Status) -> bool:
    """Whether a model is not Ready only because no server of it was asked which model it has."""
    return any(one.type == "Ready" and one.reason == _MODEL_NOT_REPORTED for one in status.conditions)


def _was_ready(s: RolloutContext) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in s.status.conditions)


def _model_loaded(s: RolloutContext) -> ConditionDraft:
    view = s.canary_view if s.status.canary else s.stable_view
    if view.ready > 0:
        return "ModelLoaded", "True", "Loaded", f"revision {view.revision} is loaded and warmed"
    if s.status.phase is Phase.SLEEPING:
        return "ModelLoaded", "Unknown", "Sleeping", "the model sleeps: a request wakes it"
    if full_size(s) == 0:
        return "ModelLoaded", "Unknown", "ScaledToZero", "the model is scaled to zero"
    if s.status.aborted:
        view = s.observed.revision(s.status.aborted)
    problem = most_severe(view.problems)
    if problem is not None:
        return "ModelLoaded", "False", problem.reason, problem.message
    return "ModelLoaded", "Unknown", "Loading", f"revision {view.revision} is being loaded"


def _autoscaler_active(s: RolloutContext) -> Iterator[ConditionDraft]:
    if s.spec.autoscaling is None:
        return
    problem = s.canary_view.autoscaler or s.stable_view.autoscaler
    if problem:
        yield "AutoscalerActive", "False", problem.reason, problem.message
    else:
        yield "AutoscalerActive", "True", "ScalingActive", ""


def _activator_ready(s: RolloutContext) -> Iterator[ConditionDraft]:
    if not can_sleep(s):
        return
    activator = s.observed.activator
    if not activator.is_installed:
        message = (
            "autoscaling.idleAfter has no effect without the activator: set activator.enabled to true in the chart"
        )
        yield "ActivatorReady", "False", "NotInstalled", message
    elif activator.endpoints is None:
        yield "ActivatorReady", "Unknown", "Connecting", "no activator has answered yet"
    elif not activator.endpoints:
        yield (
            "ActivatorReady",
            "False",
            "NoActivator",
            "no pod of the activator is ready; the model does not fall asleep",
        )
    else:
        yield "ActivatorReady", "True", "Listening", ""


def _route_programmed(s: RolloutContext) -> Iterator[ConditionDraft]:
    if not s.splits_requests:
        return
    route = s.observed.route
    if route.missing:
        yield "RouteProgrammed", "False", "RouterMissing", route.missing
    elif route.is_programmed:
        yield "RouteProgrammed", "True", "Programmed", f"{route.weight or 0} % of the traffic go to the canary"
    else:
        yield "RouteProgrammed", "Unknown", "Waiting", route.message or "the router has not answered yet"


def _analysis_healthy(s: RolloutContext) -> Iterator[ConditionDraft]:
    if not is_provider_backed(s.spec.analysis):
        return
    problem = s.observed.verdict.problem
    if problem:
        yield "AnalysisHealthy", "False", "ProviderError", problem
    else:
        yield "AnalysisHealthy", "True", "ProvidersAnswer", ""


def _monitored(s: RolloutContext) -> Iterator[ConditionDraft]:
    enabled = {"ServiceMonitor": s.spec.service_monitor, "PrometheusRule": s.spec.alerts}
    enabled_kinds = {kind for kind, is_wanted in enabled.items() if is_wanted}
    if not enabled_kinds:
        return
    missing = sorted(enabled_kinds & s.observed.missing_kinds)
    if missing:
        message = f"the cluster has no {' and no '.join(missing)}: install the Prometheus operator"
        yield "MonitoringReady", "False", "KindMissing", message
    else:
        yield "MonitoringReady", "True", "ObjectsWritten", ""


def _source_available(s: RolloutContext) -> Iterator[ConditionDraft]:
    if s.spec.model.poll_interval is None:
        return
    problem = s.stable_view.source_problem
    if problem is None:
        yield "SourceAvailable", "Unknown", "NotReported", f"no pod of {s.status.stable} has told it yet"
    elif problem:
        yield "SourceAvailable", "False", problem, f"{s.spec.model.storage_uri}: {SOURCE_PROBLEMS[problem]}"
    else:
        yield "SourceAvailable", "True", "Readable", ""


def _stream_connected(s: RolloutContext) -> Iterator[ConditionDraft]:
    if s.spec.server.stream is None:
        return
    problem = s.stable_view.stream
    if problem is None:
        yield "StreamConnected", "Unknown", "NotReported", f"no pod of {s.status.stable} has told it yet"
    elif problem:
        yield "StreamConnected", "False", problem, STREAM_PROBLEMS[problem]
    else:
        yield "StreamConnected", "True", "Connected", ""


def _estimate_trusted(s: RolloutContext) -> Iterator[ConditionDraft]:
    if not s.spec.monitoring.estimated_quality:
        return
    problem = s.stable_view.estimate
    if problem is None:
        yield "EstimateTrusted", "Unknown", "NotReported", f"no pod of {s.status.stable} has told it yet"
    elif problem:
        yield "EstimateTrusted", "False", problem, ESTIMATE_PROBLEMS[problem]
    else:
        yield "EstimateTrusted", "True", "Trusted", ""


def _annotations_accepted(s: RolloutContext) -> Iterator[ConditionDraft]:
    if not s.resource.tokens and not s.resource.unknown_annotations:
        return
    ignored = s.status.ignored_annotations
    if ignored:
        message = "; ".join(": ".join(filter(None, (one.name, one.value, one.message))) for one in ignored)
        yield "AnnotationsAccepted", "False", "AnnotationIgnored", message
    else:
        yield "AnnotationsAccepted", "True", "AllAccepted", ""


def _spec_supported(s: RolloutContext) -> Iterator[ConditionDraft]:
    """Yield a condition about fields without an effect, those of a newer definition (docs/decisions/0012)."""
    if s.resource.unknown_fields:
        fields = ", ".join(s.resource.unknown_fields)
        message = (
            f"fields that are unknown to this operator have no effect: {fields}; upgrade the operator or remove them"
        )
        yield "SpecSupported", "False", "UnknownFields", message


def _failure_reason(s: RolloutContext) -> str:
    if s.status.rollback:
        return s.status.rollback.reason
    problem = most_severe(s.stable_view.problems)
    return problem.reason if problem else "NoReplicaAvailable"


def _bool(value: bool) -> str:
    return "True" if value else "False"
