"""In which namespaces models may have objects for Prometheus (`monitoring.namespaces` of the chart). Pure.

The operator writes ServiceMonitors and PrometheusRules for people who need not have that right. Their content is fixed
(`manifests/monitoring.py`), but they cost the Prometheus of the platform series and evaluations.
"""

import fnmatch
from collections.abc import Mapping, Sequence

from model_operator.errors import NotAllowed

POLICY = "MonitoringPolicyViolated"


def check_monitoring(namespace: str, wanted: Mapping[str, bool], namespaces: Sequence[str]) -> None:
    """Check the objects for Prometheus that a resource asks for.

    Args:
        wanted: whether each of the fields of `spec.monitoring` that make such objects is set.
        namespaces: names or patterns such as `team-*`; none means that no namespace may have such objects.

    Raises:
        NotAllowed: they are not allowed in its namespace; the message names the field, and the entry that is missing.
    """
    field = next((name for name, is_wanted in wanted.items() if is_wanted), None)
    if field is None or any(fnmatch.fnmatchcase(namespace, pattern) for pattern in namespaces):
        return
    allowed = f"; namespaces that may have them: {', '.join(namespaces)}" if namespaces else ""
    raise NotAllowed(
        f"monitoring.{field}: models in namespace {namespace} may not have ServiceMonitors and PrometheusRules{allowed}"
        f". The administrator of the cluster allows them by an entry {namespace} in monitoring.namespaces of the"
        " chart; otherwise leave monitoring.serviceMonitor and monitoring.alerts out",
        reason=POLICY,
    )
