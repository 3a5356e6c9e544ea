"""The pods of a pool of models: memory, hits and loads, and which model takes more than its share."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import HALF, THIRD, graph, quantile, rate_of

_POD = "{{pod}}"
#: The Service of a pool has its name; a ServiceMonitor makes a label of it.
_OF = 'namespace="$namespace",service="$pool",pod=~"$pod"'
_HITS = f'{_OF},result="hit"'
#: Models in one graph.
_MOST = 10


def dashboard() -> Dashboard:
    """Return the dashboard of one pool."""
    found = "modeldeploy_pool_memory_bytes"
    made = parts.new(
        "modeldeploy-pool",
        "modeldeploy / Pool",
        "The pods of a ModelPool: memory, hits and loads, and which model takes more than its share.",
        parts.variable("namespace", "Namespace", f"label_values({found}, namespace)"),
        parts.variable("pool", "Pool", f'label_values({found}{{namespace="$namespace"}}, service)'),
        parts.variable(
            "pod", "Pod", f'label_values({found}{{namespace="$namespace",service="$pool"}}, pod)', many=True
        ),
    )
    for panel in (*_memory(), *_requests(), *_faults()):
        made = made.with_panel(panel)
    return made.build()


def _memory() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Memory by pod",
            "What the processes of each pod hold of its budget.",
            (f"sum by (pod) (modeldeploy_pool_memory_bytes{{{_OF}}})", _POD),
            (f"max(modeldeploy_pool_memory_budget_bytes{{{_OF}}})", "budget"),
            unit="bytes",
        ),
        graph(
            "Models by state",
            "Models of the list by state, in the pod that has most of each.",
            (f"max by (state) (modeldeploy_pool_models{{{_OF}}})", "{{state}}"),
        ),
        graph(
            "Hits",
            "Share of the requests whose model was in memory.",
            (
                f"{rate_of('modeldeploy_pool_lookups_total', _HITS, 'pod')}"
                f" / ({rate_of('modeldeploy_pool_lookups_total', _OF, 'pod')} > 0)",
                _POD,
            ),
            unit="percentunit",
            width=THIRD,
        ),
        graph(
            "Loads by outcome",
            "Loads of models per second.",
            (rate_of("modeldeploy_pool_loads_total", _OF, "outcome"), "{{outcome}}"),
            unit="ops",
            width=THIRD,
        ),
        graph(
            "Time of a load",
            "Half of the loads take less than the one, all but one in a hundred less than the other.",
            (quantile(0.5, "modeldeploy_pool_load_duration_seconds", _OF), "median"),
            (quantile(0.99, "modeldeploy_pool_load_duration_seconds", _OF), "99th percentile"),
            unit="s",
            width=THIRD,
        ),
    )


def _requests() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Requests by model",
            f"Answered predictions per second of the {_MOST} models that are asked most.",
            (f"topk({_MOST}, {rate_of('modeldeploy_requests_total', _OF, 'model')})", "{{model}}"),
            unit="reqps",
            width=THIRD,
        ),
        graph(
            "Latency",
            "From the request's head to its answer, with the wait for a load.",
            (quantile(0.5, "modeldeploy_request_duration_seconds", _OF), "median"),
            (quantile(0.99, "modeldeploy_request_duration_seconds", _OF), "99th percentile"),
            unit="s",
            width=THIRD,
        ),
        graph(
            "In flight by pod",
            "Requests that are being answered.",
            (f"sum by (pod) (modeldeploy_requests_in_flight{{{_OF}}})", _POD),
            width=THIRD,
        ),
    )


def _faults() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Models that failed",
            "1 for a model that cannot be loaded or was put aside, with the reason; at most 20 of each pod.",
            (f"max by (model, reason) (modeldeploy_pool_model_failed{{{_OF}}})", "{{model}}: {{reason}}"),
            width=HALF,
        ),
        graph(
            "Refused",
            "Requests per second that were given to no model, and loads that found no room.",
            (rate_of("modeldeploy_pool_refusals_total", _OF, "reason"), "{{reason}}"),
            (rate_of("modeldeploy_pool_over_budget_total", _OF), "no room"),
            unit="ops",
            width=HALF,
        ),
        graph(
            "Evictions by model",
            f"Of the {_MOST} models that made room most often. Where these grow all day, the budget is too small.",
            (f"topk({_MOST}, {rate_of('modeldeploy_pool_evictions_total', _OF, 'model')})", "{{model}}"),
            unit="ops",
            width=HALF,
        ),
        graph(
            "Crashes by model",
            "Processes that ended unasked, by the models that they were computing.",
            (rate_of("modeldeploy_pool_process_ends_total", _OF, "model"), "{{model}}"),
            unit="ops",
            width=HALF,
        ),
    )
