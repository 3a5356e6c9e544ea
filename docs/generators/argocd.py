"""The settings of Argo CD for ModelDeployments, put together from the Lua scripts. Used by `docs/generate.py`."""

from pathlib import Path
from textwrap import indent

_HEAD = """\
# Health and actions of ModelDeployments for Argo CD, written by `make docs` from the scripts in this folder.
# kubectl patch configmap argocd-cm -n argocd --patch-file integrations/argocd/argocd-cm.yaml
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  labels:
    app.kubernetes.io/part-of: argocd
data:
"""
KIND = "modeldeploy.dev_ModelDeployment"
ACTIONS = ("promote", "promote-full", "abort", "retry", "undo", "pause", "resume")


def page(root: Path) -> str:
    """Return the ConfigMap with health check and actions."""
    folder = root / "integrations" / "argocd"
    lines = [
        _HEAD.rstrip(),
        f"  resource.customizations.health.{KIND}: |",
        _script(folder / "health.lua", 4),
        f"  resource.customizations.actions.{KIND}: |",
        "    discovery.lua: |",
        _script(folder / "actions" / "discovery.lua", 6),
        "    definitions:",
    ]
    for name in ACTIONS:
        script = _script(folder / "actions" / name / "action.lua", 8)
        lines += [f"    - name: {name}", "      action.lua: |", script]
    return "\n".join(lines) + "\n"


def _script(path: Path, spaces: int) -> str:
    return indent(path.read_text().rstrip(), " " * spaces)
