"""Objects for the Prometheus operator: a ServiceMonitor for a model's servers, and a PrometheusRule with alerts.

`spec.monitoring.serviceMonitor` and `.alerts` enable them (monitoring.coreos.com/v1,
https://prometheus-operator.dev/docs/api-reference/api/).
"""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from model_operator.api.analysis import Metric
from model_operator.api.hooks import EstimatedBound
from model_operator.api.names import NAME, REVISION
from model_operator.api.resource import ModelDeployment
from model_operator.manifests.metadata import owned_object

Body = dict[str, Any]

API_VERSION = "monitoring.coreos.com/v1"
#: Metrics that servers expose as `modeldeploy_quality`.
_SHOWN = ("accuracy", "precision", "recall", "f1", "log-loss")
SERVICE_MONITOR, RULE = "ServiceMonitor", "PrometheusRule"


def monitoring_objects(owner: ModelDeployment, schemes: Set[str], labels: Mapping[str, str]) -> Iterator[Body]:
    """Yield the objects that the spec enables.

    Args:
        schemes: schemes of the revisions, `http` or `https` or both.
        labels: labels by which the Prometheus of the cluster selects these objects.
    """
    if owner.spec.service_monitor:
        content = {"spec": service_monitor(owner, schemes)}
        yield owned_object(owner, API_VERSION, SERVICE_MONITOR, owner.name, content, labels=labels)
    if owner.spec.alerts:
        yield owned_object(owner, API_VERSION, RULE, owner.name, {"spec": {"groups": [alerts(owner)]}}, labels=labels)


def service_monitor(owner: ModelDeployment, schemes: Set[str]) -> Body:
    """Return the spec of a ServiceMonitor for the Services of the revisions, so that no pod is scraped twice."""
    return {
        "selector": {
            "matchLabels": {NAME: owner.name},
            "matchExpressions": [{"key": REVISION, "operator": "Exists"}],
        },
        "endpoints": endpoints(schemes, owner.spec.server.auth_secret_name, owner.spec.monitoring.scrape_key),
    }


def endpoints(schemes: Set[str], secret: str | None, key: str | None) -> list[Body]:
    """Return the endpoints of a ServiceMonitor. `secret`: that with the API keys, `key`: its entry for Prometheus."""
    # Certificates do not name the addresses of pods.
    tls: Body = {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    access = _authorization(secret, key)
    return [
        {"port": scheme, "path": "/metrics", **(tls if scheme == "https" else {}), **access}
        for scheme in sorted(schemes)
    ]


def _authorization(secret: str | None, key: str | None) -> Body:
    """Return the credentials that Prometheus sends: an entry of the Secret with the API keys, which it reads itself."""
    if secret is None or key is None:
        return {}
    return {"authorization": {"type": "Bearer", "credentials": {"name": secret, "key": key}}}


def alerts(owner: ModelDeployment) -> Body:
    """Return the group of alerts of one model.

    Alerts about servers use the metrics of the servers, with the label `namespace` that a ServiceMonitor adds; alerts
    about rollouts use the metrics of the operator.
    """
    namespace, name = owner.key.namespace, owner.name
    model = f'model="{name}",namespace="{namespace}"'
    resource = f'namespace="{namespace}",name="{name}"'
    answered = "sum by (model, namespace, revision) (rate(modeldeploy_requests_total{%s}[5m]))"
    failed = answered % f'{model},code=~"5.."'
    aborted = f'modeldeploy_operator_rollouts_total{{{resource},result="Aborted"}}'
    rules = [
        _alert(
            "ModelDegraded",
            f'modeldeploy_operator_phase{{{resource},phase="Degraded"}} == 1',
            "critical",
            f"The model {name} is degraded",
            f"For the reason, run kubectl describe mdep {name} -n {namespace}.",
        ),
        _alert(
            "ModelErrors",
            f"{failed} / {answered % model} > 0.05",
            "critical",
            f"The model {name} returns errors",
            "Revision {{ $labels.revision }} answered {{ $value | humanizePercentage }} of its requests with a 5xx.",
        ),
        _alert(
            "ModelRolledBack",
            # A counter appears with its first count, which `increase` does not include.
            f"increase({aborted}[15m]) > 0 or ({aborted} unless {aborted} offset 15m)",
            "warning",
            f"A new version of the model {name} was rolled back",
            f"For the reason, run kubectl modeldeploy history {name} -n {namespace}.",
            after="0m",
        ),
        _alert(
            "ModelInputsDrifted",
            f"max by (model, namespace, feature) (modeldeploy_drifted{{{model}}}) == 1",
            "warning",
            f"The inputs of the model {name} have drifted",
            "{{ $labels.feature }} is no longer distributed as in the training data.",
            after="15m",
        ),
        _alert(
            "ModelInputsBad",
            f'max by (model, namespace, feature, problem) (modeldeploy_data_quality_alert{{{model},feature!=""}}) == 1',
            "warning",
            f"The model {name} receives bad inputs",
            "{{ $labels.feature }} has the problem {{ $labels.problem }} in more rows than its limit allows.",
        ),
        _alert(
            "ModelInputsOutlying",
            f'max by (model, namespace) (modeldeploy_data_quality_alert{{{model},problem="outlier"}}) == 1',
            "warning",
            f"The inputs of the model {name} are far from its training data",
            "More rows than the limit allows are farther from the training data than 99.9 % of it.",
        ),
    ]
    quality = owner.spec.hooks.retrain.quality if owner.spec.hooks.retrain else ()
    rules += [_quality_low(metric, model, name) for metric in quality if metric.name in _SHOWN]
    estimated = owner.spec.hooks.retrain.estimated if owner.spec.hooks.retrain else ()
    rules += [_estimate_low(bound, model, name) for bound in estimated]
    return {"name": f"modeldeploy.{namespace}.{name}", "rules": rules}


def _quality_low(metric: Metric, model: str, name: str) -> Body:
    series = f'modeldeploy_quality{{{model},metric="{metric.name.replace("-", "_")}"}}'
    bound = f"< {metric.minimum:g}" if metric.minimum is not None else f"> {metric.maximum:g}"
    return _alert(
        "ModelQualityLow",
        f"avg by (model, namespace, metric) ({series}) {bound}",
        "warning",
        f"The quality of the model {name} has degraded",
        f"According to feedback, its {metric.name} is {{{{ printf `%.3g` $value }}}}, which is {bound}.",
        after="15m",
    )


def _estimate_low(bound: EstimatedBound, model: str, name: str) -> Body:
    # The upper end of the interval, of the pods that trust their estimate.
    trusted = f"on (namespace, model, revision, pod) (modeldeploy_estimate_trusted{{{model}}} == 1)"
    series = f'modeldeploy_estimated_quality_high{{{model},metric="{bound.name}"}}'
    return _alert(
        "ModelEstimatedQualityLow",
        f"avg by (model, namespace, metric) ({series} and {trusted}) < {bound.minimum:g}",
        "warning",
        f"The quality of the model {name} is estimated to have degraded",
        f"Without labels, its {bound.name} is estimated to be at most {{{{ printf `%.3g` $value }}}}, which is"
        f" < {bound.minimum:g}.",
        after="15m",
    )


def _alert(name: str, expression: str, severity: str, summary: str, description: str, *, after: str = "5m") -> Body:
    return {
        "alert": name,
        "expr": expression,
        "for": after,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
