"""The operator: leadership, reconciles, requests to the API server, rollouts."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import FULL, HALF, THIRD, figure, graph

_RECONCILES = "modeldeploy_operator_reconciles_total"
_SECONDS = "modeldeploy_operator_reconcile_duration_seconds"
_REQUESTS = "modeldeploy_operator_api_requests_total"
_PERIOD = "[$__rate_interval]"


def dashboard() -> Dashboard:
    """Return the dashboard of the operator."""
    made = parts.new("modeldeploy-operator", "modeldeploy / Operator", "Work and health of the operator.")
    for panel in (*_figures(), *_work(), *_requests()):
        made = made.with_panel(panel)
    return made.build()


def _figures() -> tuple[parts.Panel, ...]:
    share = f'sum(rate({_RECONCILES}{{result=~"error|bug"}}{_PERIOD})) or vector(0)'
    return (
        figure("Leaders", "Processes that lead: one, when all is well.", ("sum(modeldeploy_operator_leader)", "")),
        figure("Models", "ModelDeployments.", ("count(max by (namespace, name) (modeldeploy_operator_phase))", "")),
        figure(
            "Reconciles", "Reconciles per second.", (f"sum(rate({_RECONCILES}{_PERIOD}))", ""), unit="ops", width=THIRD
        ),
        figure("Failed reconciles", "Per second.", (share, ""), unit="ops", width=THIRD, bad_from=0.1),
    )


def _work() -> tuple[parts.Panel, ...]:
    quantiles = tuple(
        (f"histogram_quantile({share}, sum by (le) (rate({_SECONDS}_bucket{_PERIOD})))", name)
        for share, name in ((0.5, "median"), (0.99, "99th percentile"))
    )
    return (
        graph(
            "Reconciles by result",
            "ok; conflict and error are tried again; terminating: the namespace goes; bug: a fault of the operator.",
            (f"sum by (result) (rate({_RECONCILES}{_PERIOD}))", "{{result}}"),
            unit="ops",
            width=HALF,
        ),
        graph("Duration of a reconcile", "Quantiles over all models.", *quantiles, unit="s"),
        graph(
            "Finished rollouts",
            "Rollouts that ended in each interval, by result.",
            (f"sum by (result) (increase(modeldeploy_operator_rollouts_total{_PERIOD}))", "{{result}}"),
        ),
        graph(
            "Mean duration of a rollout",
            "Of the rollouts that ended in each interval, by result.",
            (
                f"sum by (result) (rate(modeldeploy_operator_rollout_duration_seconds_sum{_PERIOD}))"
                f" / sum by (result) (rate(modeldeploy_operator_rollout_duration_seconds_count{_PERIOD}) > 0)",
                "{{result}}",
            ),
            unit="s",
        ),
    )


def _requests() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Requests to the API server",
            "By verb and kind.",
            (f"sum by (verb, kind) (rate({_REQUESTS}{_PERIOD}))", "{{verb}} {{kind}}"),
            unit="reqps",
        ),
        graph(
            "Answers of the API server",
            "By HTTP code. A 409 is a write that another one overtook; it is tried again.",
            (f"sum by (code) (rate({_REQUESTS}{_PERIOD}))", "{{code}}"),
            unit="reqps",
        ),
        graph(
            "Models by phase",
            "Number of models in each phase.",
            ("count by (phase) (max by (namespace, name, phase) (modeldeploy_operator_phase))", "{{phase}}"),
            stacked=True,
            width=FULL,
        ),
    )
