"""The model servers of one model, pod by pod: where the time of a request goes, batches, loading."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import parts
from dashboards.parts import FULL, REVISIONS, THIRD, graph, quantile, rate_of

_POD = "{{pod}}"
_OF = f'{REVISIONS},pod=~"$pod"'


def dashboard() -> Dashboard:
    """Return the dashboard of the servers of one model."""
    pods = f"label_values(modeldeploy_model_info{{{REVISIONS}}}, pod)"
    made = parts.new(
        "modeldeploy-server",
        "modeldeploy / Server",
        "The pods of one model: where the time of a request goes, batches, loading.",
        *parts.one_model(),
        parts.revisions(),
        parts.variable("pod", "Pod", pods, many=True),
    )
    for panel in (*_requests(), *_parts_of_a_request(), *_others()):
        made = made.with_panel(panel)
    return made.build()


def _requests() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Requests by pod",
            "Predictions per second.",
            (rate_of("modeldeploy_requests_total", _OF, "pod"), _POD),
            unit="reqps",
            width=THIRD,
        ),
        graph(
            "In flight by pod",
            "Predictions being answered.",
            (f"sum by (pod) (modeldeploy_requests_in_flight{{{_OF}}})", _POD),
            width=THIRD,
        ),
        graph(
            "99th percentile of the latency by pod",
            "From the request's head to its answer.",
            (quantile(0.99, "modeldeploy_request_duration_seconds", _OF, "pod"), _POD),
            unit="s",
            width=THIRD,
        ),
    )


def _parts_of_a_request() -> tuple[parts.Panel, ...]:
    named = 'namespace="$namespace",pod=~"$pod"'
    histograms = (
        ("request_preprocess_seconds", named, "preprocess"),
        ("modeldeploy_queue_duration_seconds", _OF, "queue"),
        ("modeldeploy_predict_duration_seconds", _OF, "model"),
        ("request_postprocess_seconds", named, "postprocess"),
    )
    means = tuple(
        (f"{rate_of(f'{name}_sum', of)} / ({rate_of(f'{name}_count', of)} > 0)", legend)
        for name, of, legend in histograms
    )
    return (
        graph(
            "Where the time goes",
            "Mean duration of each part of a request: decoding, the wait for a batch, the model, encoding.",
            *means,
            unit="s",
            stacked=True,
        ),
        graph(
            "Wait for a batch by pod",
            "95th percentile of the wait of the oldest request in each call of the model.",
            (quantile(0.95, "modeldeploy_queue_duration_seconds", _OF, "pod"), _POD),
            unit="s",
        ),
        graph(
            "Calls of the model by pod",
            "95th percentile of their duration.",
            (quantile(0.95, "modeldeploy_predict_duration_seconds", _OF, "pod"), _POD),
            unit="s",
        ),
        graph(
            "Steps around the model",
            "Mean duration of each part of a call: pre.py, the model, post.py. Empty for packages without steps.",
            (
                f"{rate_of('modeldeploy_step_duration_seconds_sum', _OF, 'step')}"
                f" / ({rate_of('modeldeploy_step_duration_seconds_count', _OF, 'step')} > 0)",
                "{{step}}",
            ),
            unit="s",
            stacked=True,
        ),
        graph(
            "Rows in a batch by pod",
            "Mean number of rows in one call of the model.",
            (
                f"{rate_of('modeldeploy_batch_rows_sum', _OF, 'pod')}"
                f" / ({rate_of('modeldeploy_batch_rows_count', _OF, 'pod')} > 0)",
                _POD,
            ),
            width=FULL,
        ),
    )


def _others() -> tuple[parts.Panel, ...]:
    return (
        graph(
            "Refusals by reason",
            "Requests per second that the model, its schema or a limit refused (4xx).",
            (rate_of("modeldeploy_refusals_total", _OF, "reason"), "{{reason}}"),
            unit="reqps",
            width=THIRD,
        ),
        graph(
            "Time of loading by phase",
            "Seconds that each phase of loading took: a slow start is a download or a load.",
            (
                'max by (phase) (modeldeploy_load_phase_seconds{namespace="$namespace",pod=~"$pod"})',
                "{{phase}}",
            ),
            unit="s",
            width=THIRD,
        ),
        graph(
            "Source changed",
            "1 while another object than the loaded one lies at the storage URI.",
            (f"max by (pod) (modeldeploy_source_changed{{{_OF}}})", _POD),
            width=THIRD,
        ),
        graph(
            "Input log",
            "Sampled requests per second that were written, and that were dropped.",
            (rate_of("modeldeploy_input_log_written_total", _OF), "written"),
            (rate_of("modeldeploy_input_log_dropped_total", _OF), "dropped"),
            width=FULL,
        ),
    )
