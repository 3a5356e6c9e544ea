"""Installs, upgrades, rolls back and removes the chart with Helm's engine, for machines that have no `helm`.

    python -m modeldeploy.stand.chart install|upgrade|rollback|uninstall --kubeconfig FILE [--values JSON]

A process of its own, because the engine is Go: its threads should not live beside ours.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import helm_python

from modeldeploy.stand.source import checkout

RELEASE = "modeldeploy"
NAMESPACE = "modeldeploy"
_WAIT: dict[str, Any] = {"wait": "watcher", "timeout": 120}


def main(arguments: list[str]) -> int:
    """Run one action, wait until the cluster has followed, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m modeldeploy.stand.chart")
    parser.add_argument("action", choices=["install", "upgrade", "rollback", "uninstall"])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--values", type=json.loads, default={})
    parser.add_argument("--chart", type=Path, default=checkout() / "helm" / "modeldeploy", help="folder of the chart")
    given = parser.parse_args(arguments)
    try:
        with helm_python.Config(kubeconfig_path=given.kubeconfig, namespace=NAMESPACE) as helm:
            print(_act(helm, given.action, given.chart, given.values))
    except helm_python.HelmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _act(helm: helm_python.Config, action: str, chart: Path, values: dict[str, Any]) -> str:
    if action == "uninstall":
        helm.uninstall(RELEASE, **_WAIT)
        return f'release "{RELEASE}" uninstalled'
    if action == "install":
        helm.install(chart, RELEASE, values, create_namespace=True, **_WAIT)
    elif action == "upgrade":
        helm.upgrade(chart, RELEASE, values, **_WAIT)
    else:
        helm.rollback(RELEASE, **_WAIT)
    release = helm.status(RELEASE)
    return f"NAME: {RELEASE}\nNAMESPACE: {NAMESPACE}\nSTATUS: {release['status']}\nREVISION: {release['revision']}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
