"""Installs, upgrades and removes the chart with Helm's engine, for machines that have no `helm` program.

    python -m modeldeploy.stand.chart install|uninstall --kubeconfig FILE [--values JSON]

A process of its own, because the engine is Go: its threads should not live beside ours.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python

from modeldeploy.stand.lifecycle import checkout

RELEASE = "modeldeploy"
NAMESPACE = "modeldeploy"
_TIMEOUT = 120


def main(arguments: list[str]) -> int:
    """Run one of the two and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m modeldeploy.stand.chart")
    parser.add_argument("action", choices=["install", "uninstall"])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--values", type=json.loads, default={})
    given = parser.parse_args(arguments)
    try:
        with helm_python.Config(kubeconfig_path=given.kubeconfig, namespace=NAMESPACE) as helm:
            print(_install(helm, given.values) if given.action == "install" else _uninstall(helm))
    except helm_python.HelmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _install(helm: helm_python.Config, values: Mapping[str, Any]) -> str:
    chart = checkout() / "helm" / "modeldeploy"
    release = helm.install(chart, RELEASE, dict(values), create_namespace=True, wait="watcher", timeout=_TIMEOUT)
    return f"NAME: {RELEASE}\nNAMESPACE: {NAMESPACE}\nSTATUS: {release['status']}\nREVISION: {release['revision']}"


def _uninstall(helm: helm_python.Config) -> str:
    helm.uninstall(RELEASE, wait="watcher", timeout=_TIMEOUT)
    return f'release "{RELEASE}" uninstalled'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
