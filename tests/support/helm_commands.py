"""The commands of `helm` that the examples show, on Helm's own engine, for machines that have no `helm`.

python tests/support/helm_commands.py template|upgrade|rollback|uninstall RELEASE [CHART] [-f FILE] [--set ...]
"""

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import Any

import yaml


def main(arguments: list[str]) -> int:
    """Run one command in the namespace of the kubeconfig's context."""
    import helm_python

    parser = argparse.ArgumentParser(prog="helm")
    parser.add_argument("command", choices=["template", "upgrade", "rollback", "uninstall"])
    parser.add_argument("release")
    parser.add_argument("chart", nargs="?")
    parser.add_argument("--install", action="store_true")
    parser.add_argument("-f", dest="files", action="append", type=Path, default=[])
    parser.add_argument("--set-string", dest="texts", action="append", default=[])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args(arguments)
    values: dict[str, Any] = {}
    for file in given.files:
        values |= yaml.safe_load(file.read_text())
    values |= dict(text.split("=", 1) for text in given.texts)
    values |= {name: yaml.safe_load(text) for name, text in (one.split("=", 1) for one in given.settings)}
    kubeconfig = Path(os.environ["KUBECONFIG"])
    try:
        if given.command == "template":
            with helm_python.Chart.load(given.chart) as chart:
                print("\n---\n".join(chart.render(values, name=given.release).values()))
            return 0
        with helm_python.Config(kubeconfig_path=kubeconfig, namespace=_namespace(kubeconfig)) as helm:
            print(_run(helm, given, values))
    except helm_python.HelmError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(helm: Any, given: argparse.Namespace, values: dict[str, Any]) -> str:
    if given.command == "uninstall":
        helm.uninstall(given.release)
    elif given.command == "rollback":
        helm.rollback(given.release)
    elif given.install and given.release not in {one["name"] for one in helm.list()}:
        helm.install(given.chart, given.release, values)
    else:
        helm.upgrade(given.chart, given.release, values)
    return f"{given.command}: {given.release}"


def _namespace(kubeconfig: Path) -> str:
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(one for one in config["contexts"] if one["name"] == config["current-context"])
    return str(context["context"].get("namespace", "default"))


def install(folder: Path) -> Path:
    """Write an executable `helm` into `folder`, which goes into PATH; return the folder."""
    folder.mkdir(exist_ok=True)
    command = folder / "helm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
