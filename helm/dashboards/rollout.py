"""One rollout: its steps, canary against stable, and how the evidence grows."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import FULL, RESOURCE, SERVED, THIRD, figure, graph, listing, operator_value, quantile, rate_of

_ROLES = "on (namespace, revision) group_left (role) max by (namespace, revision, role)"
_DURATION = "modeldeploy_request_duration_seconds"


def _by_role(per_revision: str) -> str:
    """Return the series of revisions with the role that each has in the rollout."""
    return f"{per_revision} * {_ROLES} (modeldeploy_operator_revision_info{{{RESOURCE}}})"


def dashboard() -> Dashboard:
    """Return the dashboard of the rollout of one model."""
    made = parts.new(
        "modeldeploy-rollout",
        "modeldeploy / Rollout",
        "One rollout: steps, canary against stable, evidence.",
        *parts.one_model(),
    )
    for panel in (*_progress(), *_comparison(), *_evidence()):
        made = made.with_panel(panel)
    return made.build()


def _progress() -> tuple[parts.Panel, ...]:
    roles = operator_value("revision_info", RESOURCE, "revision", "role")
    return (
        figure(
            "Phase",
            "Phase of the ModelDeployment.",
            (operator_value("phase", RESOURCE, "phase"), "{{phase}}"),
            width=THIRD,
        ),
        figure("Revisions", "Revisions that take part.", (roles, "{{role}} {{revision}}"), width=THIRD),
        figure(
            "Waits for",
            "Reasons why the rollout waits (status.pauseConditions).",
            (operator_value("paused", RESOURCE, "reason"), "{{reason}}"),
            width=THIRD,
        ),
        graph(
            "Traffic for the canary",
            "Applied: what the router was given. Observed: share of the requests that the canary counted.",
            (operator_value("canary_weight", RESOURCE), "applied"),
            (operator_value("canary_weight_observed", RESOURCE), "observed"),
            unit="percent",
        ),
        graph(
            "Step",
            "Index of the current step, from 0; -1 without a rollout.",
            (operator_value("rollout_step", RESOURCE), "step"),
        ),
    )


def _comparison() -> tuple[parts.Panel, ...]:
    by = ("namespace", "revision")
    failed = rate_of("modeldeploy_requests_total", f'{SERVED},code=~"5.."', *by)
    total = rate_of("modeldeploy_requests_total", SERVED, *by)
    return (
        graph(
            "Requests",
            "Predictions per second of canary and stable.",
            (_by_role(total), "{{role}}"),
            unit="reqps",
            width=THIRD,
        ),
        graph(
            "Errors",
            "Share of the predictions that were answered with a 5xx.",
            (_by_role(f"(({failed} or {total} * 0) / ({total} > 0))"), "{{role}}"),
            unit="percentunit",
            width=THIRD,
        ),
        graph(
            "95th percentile of the latency",
            "From the request's head to its answer.",
            (_by_role(quantile(0.95, _DURATION, SERVED, *by)), "{{role}}"),
            unit="s",
            width=THIRD,
        ),
    )


def _evidence() -> tuple[parts.Panel, ...]:
    metric = "{{metric}}"
    verdict = operator_value("analysis_verdict", RESOURCE, "metric", "verdict")
    return (
        graph(
            "Evidence that the canary is worse",
            "An e-value for each metric; 1 is no evidence. At its threshold the metric fails: a rollback.",
            (operator_value("analysis_evidence", RESOURCE, "metric"), metric),
            (operator_value("analysis_evidence_threshold", RESOURCE, "metric"), "{{metric}} fails at"),
            logarithmic=True,
            width=FULL,
        ),
        listing("Verdicts", "Current verdict of each metric.", verdict, ("namespace", "name"), width=THIRD),
        graph(
            "Values",
            "Measured value of each metric: a rate, a quality, a distance.",
            (operator_value("analysis_value", RESOURCE, "metric", "role"), "{{metric}} {{role}}"),
            width=THIRD,
        ),
        graph(
            "Still needed",
            "Estimated number of requests, labels or answers until a verdict.",
            (operator_value("analysis_samples_needed", RESOURCE, "metric", "unit"), "{{metric}} {{unit}}"),
            width=THIRD,
        ),
        graph(
            "Counted",
            "Requests, labels or answers that the analysis counted.",
            (operator_value("analysis_samples", RESOURCE, "metric", "role", "unit"), "{{metric}} {{role}} {{unit}}"),
        ),
        graph(
            "Finished rollouts",
            "Rollouts of this model since the operator started, by result.",
            (f"max by (result) (modeldeploy_operator_rollouts_total{{{RESOURCE}}})", "{{result}}"),
        ),
    )
