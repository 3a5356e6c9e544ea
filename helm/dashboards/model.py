"""One model: state, load, errors, latency, what it answers, drift and quality."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import (
    HALF,
    RESOURCE,
    REVISIONS,
    SIXTH,
    THIRD,
    error_ratio,
    figure,
    graph,
    operator_value,
    quantile,
    rate_of,
)

_DURATION = "modeldeploy_request_duration_seconds"
_OF_REVISION = "{{revision}}"


def dashboard() -> Dashboard:
    """Return the dashboard of one model."""
    made = parts.new(
        "modeldeploy-model",
        "modeldeploy / Model",
        "One model: state, load, errors, latency, answers, drift, quality.",
        *parts.one_model(),
        parts.revisions(),
    )
    for panel in (*_state(), *_load(), *_answers()):
        made = made.with_panel(panel)
    return made.build()


def _state() -> tuple[parts.Panel, ...]:
    info = f"max by (version, revision) (modeldeploy_model_info{{{REVISIONS}}})"
    stable = operator_value("revision_info", f'{RESOURCE},role="stable"', "revision")
    return (
        figure("Phase", "Phase of the ModelDeployment.", (operator_value("phase", RESOURCE, "phase"), "{{phase}}")),
        figure("Stable revision", "Revision that has the trust.", (stable, _OF_REVISION)),
        figure("Loaded versions", "Versions that the servers loaded.", (info, "{{version}} ({{revision}})")),
        figure(
            "Canary weight",
            "Percentage of the traffic for the canary.",
            (operator_value("canary_weight", RESOURCE), ""),
            unit="percent",
        ),
        figure(
            "Requests", "Predictions per second.", (rate_of("modeldeploy_requests_total", REVISIONS), ""), unit="reqps"
        ),
        figure(
            "Errors",
            "Share of the predictions that were answered with a 5xx.",
            (error_ratio(REVISIONS), ""),
            unit="percentunit",
            width=SIXTH,
            bad_from=0.05,
        ),
    )


def _load() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Requests by revision",
            "Predictions per second.",
            (rate_of("modeldeploy_requests_total", REVISIONS, "revision"), _OF_REVISION),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Requests by code",
            "Predictions per second, by HTTP code.",
            (rate_of("modeldeploy_requests_total", REVISIONS, "code"), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Errors by revision",
            "Share of the predictions that were answered with a 5xx.",
            (error_ratio(REVISIONS, "revision"), _OF_REVISION),
            unit="percentunit",
        ),
        graph(
            "Refusals by reason",
            "Requests per second that the model, its schema or a limit refused (4xx).",
            (rate_of("modeldeploy_refusals_total", REVISIONS, "reason"), "{{reason}}"),
            unit="reqps",
        ),
        *(
            graph(
                f"{name} of the latency by revision",
                "From the request's head to its answer.",
                (quantile(share, _DURATION, REVISIONS, "revision"), _OF_REVISION),
                unit="s",
            )
            for share, name in ((0.5, "Median"), (0.99, "99th percentile"))
        ),
    )


def _answers() -> tuple[parts.Panel, ...]:
    outputs = rate_of("modeldeploy_outputs_total", REVISIONS, "revision", "output")
    return (
        graph(
            "Predictions by class or bucket",
            "Share of each class, or of each bucket of a number, among the predictions of a revision.",
            (
                f"{outputs} / on (revision) group_left ()"
                f" ({rate_of('modeldeploy_outputs_total', REVISIONS, 'revision')} > 0)",
                "{{revision}} {{output}}",
            ),
            unit="percentunit",
            width=THIRD,
        ),
        graph(
            "Quality by revision",
            "According to feedback, over all labels that a revision received.",
            (f"avg by (revision, metric) (modeldeploy_quality{{{REVISIONS}}})", "{{revision}} {{metric}}"),
            width=THIRD,
        ),
        graph(
            "Estimated quality by revision",
            "Without labels, from calibrated probabilities, while it is trusted (spec.monitoring.estimatedQuality).",
            (
                f"avg by (revision, metric) (modeldeploy_estimated_quality{{{REVISIONS}}} and on (revision, pod)"
                f" (modeldeploy_estimate_trusted{{{REVISIONS}}} == 1))",
                "{{revision}} {{metric}}",
            ),
            width=THIRD,
        ),
        graph(
            "Drift by feature",
            "Population stability index of each feature against its reference (spec.monitoring.drift.threshold).",
            (
                f'max by (revision, feature) (modeldeploy_drift_score{{{REVISIONS},method="psi"}})',
                "{{feature}} ({{revision}})",
            ),
            width=HALF,
        ),
        graph(
            "Drifted features",
            "Features above the threshold.",
            (
                f"sum by (revision) (max by (revision, feature) (modeldeploy_drifted{{{REVISIONS}}}))",
                _OF_REVISION,
            ),
        ),
        graph(
            "Problems of features",
            "Share of recent rows in which a feature is missing, unseen, out of range or of a wrong type"
            " (spec.monitoring.dataQuality).",
            (
                f"max by (revision, feature, problem) (modeldeploy_data_quality_share{{{REVISIONS},"
                'problem!="outlier"})',
                "{{feature}} {{problem}} ({{revision}})",
            ),
            unit="percentunit",
            width=HALF,
        ),
        graph(
            "Requests unlike the training data",
            "Share of the requests of which a row has a rare problem, or is an outlier.",
            *(
                (
                    f"{rate_of(f'modeldeploy_{what}_requests_total', REVISIONS, 'revision')}"
                    f" / {rate_of('modeldeploy_inspected_requests_total', REVISIONS, 'revision')}",
                    f"{legend} ({{{{revision}}}})",
                )
                for what, legend in (("bad", "bad"), ("outlier", "outliers"))
            ),
            unit="percentunit",
            width=HALF,
        ),
        graph(
            "Labels",
            "Labels per second that were joined to a prediction.",
            (rate_of("modeldeploy_feedback_total", REVISIONS, "revision", "outcome"), "{{revision}} {{outcome}}"),
            width=THIRD,
        ),
        graph(
            "Conversions",
            "Conversions per second that were reported.",
            (
                rate_of("modeldeploy_conversions_total", REVISIONS, "revision", "converted"),
                "{{revision}} {{converted}}",
            ),
            width=THIRD,
        ),
        graph(
            "Users of an A/B test",
            "Users per second that a router assigned to a revision.",
            (rate_of("modeldeploy_assignments_total", REVISIONS, "revision"), _OF_REVISION),
            width=THIRD,
        ),
    )
