"""Starts a sandbox and installs the operator in it, and ends them again. See the package's docstring."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldeploy.stand.operator import Operator, installed, uninstall
from modeldeploy.stand.process import Child, environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What runs: `kubeconfig` leads to the sandbox, `folder` holds logs and state."""

    folder: Path
    kubeconfig: Path
    sandbox: Child
    operator: Operator


@contextmanager
def stand(folder: Path, *options: str, **settings: str) -> Iterator[Stand]:
    """Sandbox, resource definition and operator, up on entry and gone on exit.

    `options` are the sandbox's, `settings` environment variables of the operator.
    """
    with start_sandbox(folder, "--gateway", *options) as sandbox:
        kubeconfig = folder / "kubeconfig"
        with installed(folder, kubeconfig, settings=settings) as operator:
            yield Stand(folder=folder, kubeconfig=kubeconfig, sandbox=sandbox, operator=operator)


@contextmanager
def joined(
    folder: Path, kubeconfig: Path, *options: str, values: Mapping[str, Any] | None = None, **settings: str
) -> Iterator[Stand]:
    """This machine as a node of another control plane, with proxy, gateway and the chart, until exit.

    Pods have network namespaces, which needs root. `options` are the node's, `values` those of the chart, `settings`
    environment variables of the operator.
    """
    parts = {
        "node": ["--network", "netns", "--state", str(folder / "state"), *options],
        "proxy": ["--network", "netns"],
        "gateway": [],
    }
    with ExitStack() as stack:
        children = {}
        for name, more in parts.items():
            command = [sys.executable, "-m", "model_sandbox", name, "--kubeconfig", str(kubeconfig), *more]
            child = Child(name, command, log=folder / f"{name}.log", env=environment())
            children[name] = stack.enter_context(child)
        operator = stack.enter_context(installed(folder, kubeconfig, settings=settings, values=values))
        stack.callback(uninstall, kubeconfig)
        yield Stand(folder=folder, kubeconfig=kubeconfig, sandbox=children["node"], operator=operator)


def start_sandbox(folder: Path, *options: str) -> Child:
    """Start the sandbox with its files under `folder`; ready on return, its kubeconfig in the folder.

    `options` are more options of `python -m model_sandbox up`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "model_sandbox", "up"]
    command += ["--state", str(folder / "state"), "--kubeconfig", str(folder / "kubeconfig"), *options]
    child = Child("sandbox", command, log=folder / "sandbox.log", env=environment())
    try:
        child.wait_for(r"^export KUBECONFIG=", seconds=30)
    except BaseException:
        child.stop()
        raise
    return child
