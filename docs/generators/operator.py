"""The page of the operator: settings and metrics from its code. Used by `docs/generate.py`."""

from dataclasses import MISSING, fields
from pathlib import Path

from model_operator.clients.kinds import rbac_rules
from model_operator.settings import PREFIX, Settings
from model_operator.telemetry import Telemetry

_INTRO = """\
# The operator

The settings, metrics and rights on this page are made from the code by `make docs`.

The operator runs in the cluster as the [chart](../helm/modeldeploy) installs it, or anywhere a kubeconfig leads to
one: `KUBECONFIG=... python -m model_operator`. Several may run; a Lease decides which one works. What it remembers
is in the status of each ModelDeployment and nowhere else, so that it may be killed at any time.

`GET /metrics` is at the metrics port, `GET /healthz` at the health port. Exit status 78 means that a setting is wrong,
or that there is no way to the API server; the message names it. An unknown variable with the prefix is such a mistake.
"""

_MEANINGS = {
    "server_image": "Image of the model server, where `spec.server.image` names none.",
    "image_pull_secrets": "Names of Secrets for pulling it, separated by commas.",
    "monitoring_labels": "Labels of models' ServiceMonitors and PrometheusRules, as `key=value,key=value`.",
    "watch_namespaces": "The namespaces that are served, with commas between them; empty means all.",
    "pre_stop_seconds": "How long a pod that leaves goes on answering, so that everybody learns that it leaves.",
    "host": "Address of metrics and health.",
    "metrics_port": "Port of `/metrics`.",
    "health_port": "Port of `/healthz`.",
    "leader_election": "Whether a Lease is taken before work; `false` only where surely one operator runs.",
    "lease_namespace": "Namespace of the Lease.",
    "lease_name": "Name of the Lease.",
    "lease_seconds": "How long a silent leader is waited for.",
    "identity": "Name in the Lease; empty means host name and process id.",
    "log_level": "`debug`, `info`, `warning` or `error`.",
    "log_format": "`json`, or `text` for people.",
}


def page(_root: Path) -> str:
    """The page as Markdown."""
    settings = ["## Settings", "", "| variable | default | meaning |", "|---|---|---|"]
    for one in fields(Settings):
        default = "" if one.default in ("", MISSING) else f"`{str(one.default).lower()}`"
        settings.append(f"| `{PREFIX}{one.name.upper()}` | {default} | {_MEANINGS[one.name]} |")
    metrics = ["## Metrics", "", "| metric | type | meaning |", "|---|---|---|"]
    for family in Telemetry().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metrics.append(f"| `{name}` | {family.type} | {family.documentation} |")
    rights = ["## Rights", "", "| resource | verbs |", "|---|---|"]
    for rule in rbac_rules():
        resource = ".".join(part for part in (rule["resources"][0], rule["apiGroups"][0]) if part)
        rights.append(f"| `{resource}` | {', '.join(rule['verbs'])} |")
    return "\n\n".join([_INTRO.strip(), *("\n".join(part) for part in (settings, metrics, rights))]) + "\n"
