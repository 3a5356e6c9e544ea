"""All models: what needs attention, and the load and the errors of each."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import FULL, error_ratio, figure, graph, listing, operator_value, quantile, rate_of

_OF = 'namespace=~"$namespace"'
_BY = ("namespace", "model")
_NAME = "{{namespace}}/{{model}}"


def _count(expression: str) -> tuple[str, str]:
    return f"count({expression}) or vector(0)", ""


def dashboard() -> Dashboard:
    """Return the dashboard of all models."""
    phase = operator_value("phase", _OF, "phase")
    attention = operator_value("phase", f'{_OF},phase=~"Degraded|Paused|RollingBack"', "phase")
    made = parts.new(
        "modeldeploy-fleet",
        "modeldeploy / Fleet",
        "All models: what needs attention, load and errors.",
        parts.namespaces(many=True),
    )
    panels = (
        figure("Models", "ModelDeployments that the operator manages.", _count(operator_value("phase", _OF))),
        figure(
            "Degraded",
            "Models whose revision of the spec failed, or whose stable revision serves nobody.",
            _count(operator_value("phase", f'{_OF},phase="Degraded"')),
            bad_from=1,
        ),
        figure(
            "Rollouts",
            "Rollouts in progress.",
            _count(f"{operator_value('rollout_step', _OF)} >= 0"),
        ),
        figure("Paused", "Rollouts that wait.", _count(operator_value("phase", f'{_OF},phase="Paused"'))),
        figure("Requests", "Predictions per second.", (rate_of("modeldeploy_requests_total", _OF), ""), unit="reqps"),
        figure(
            "Errors",
            "Share of the predictions that were answered with a 5xx.",
            (error_ratio(_OF), ""),
            unit="percentunit",
            bad_from=0.05,
        ),
        listing(
            "Needs attention",
            "Models that are degraded, paused, or going back. A row opens the model.",
            attention,
            (),
            link="modeldeploy-model",
        ),
        graph(
            "Requests by model",
            "Predictions per second of the 20 busiest models.",
            (f"topk(20, {rate_of('modeldeploy_requests_total', _OF, *_BY)})", _NAME),
            unit="reqps",
        ),
        graph(
            "Errors by model",
            "Share of the predictions that were answered with a 5xx, of the 20 worst models.",
            (f"topk(20, {error_ratio(_OF, *_BY)})", _NAME),
            unit="percentunit",
        ),
        graph(
            "99th percentile of the latency by model",
            "Of the 20 slowest models.",
            (f"topk(20, {quantile(0.99, 'modeldeploy_request_duration_seconds', _OF, *_BY)})", _NAME),
            unit="s",
        ),
        graph(
            "Canary weight by model",
            "Percentage of the traffic for the canary, of rollouts in progress.",
            (f"{operator_value('canary_weight', _OF)} > 0", "{{namespace}}/{{name}}"),
            unit="percent",
        ),
        graph(
            "Models by phase",
            "Number of models in each phase.",
            (f"count by (phase) ({phase})", "{{phase}}"),
            stacked=True,
        ),
        graph(
            "Finished rollouts",
            "Rollouts that ended in each interval, by result.",
            (
                f"sum by (result) (increase(modeldeploy_operator_rollouts_total{{{_OF}}}[$__rate_interval]))",
                "{{result}}",
            ),
            stacked=True,
        ),
        graph(
            "Drifted features by model",
            "Features that are no longer distributed as in the reference.",
            (f"sum by (namespace, model) (max by (namespace, model, feature) (modeldeploy_drifted{{{_OF}}}))", _NAME),
            width=FULL,
        ),
    )
    for panel in panels:
        made = made.with_panel(panel)
    return made.build()
