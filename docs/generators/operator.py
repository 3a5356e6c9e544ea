"""The page of the operator: settings and metrics from its code. Used by `docs/generate.py`."""

from pathlib import Path

from model_operator.clients.kinds import rbac_rules
from model_operator.settings import described
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


def page(_root: Path) -> str:
    """The page as Markdown."""
    settings = ["## Settings", "", "| variable | default | meaning |", "|---|---|---|"]
    for variable, default, meaning in described():
        settings.append(f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |")
    metrics = ["## Metrics", "", "| metric | type | meaning |", "|---|---|---|"]
    for family in Telemetry().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metrics.append(f"| `{name}` | {family.type} | {family.documentation} |")
    rights = ["## Rights", "", "| resource | verbs |", "|---|---|"]
    for rule in rbac_rules():
        resource = ".".join(part for part in (rule["resources"][0], rule["apiGroups"][0]) if part)
        rights.append(f"| `{resource}` | {', '.join(rule['verbs'])} |")
    return "\n\n".join([_INTRO.strip(), *("\n".join(part) for part in (settings, metrics, rights))]) + "\n"
