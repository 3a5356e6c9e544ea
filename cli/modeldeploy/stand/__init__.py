"""A sandbox with the operator installed in it by the chart.

The demo, `make sandbox`, the end-to-end tests and the benchmarks stand on it. Sandbox and operator
are started with `python -m`; nothing here imports them.
"""

from modeldeploy.stand.lifecycle import Stand, joined, stand, start_sandbox
from modeldeploy.stand.operator import INSTALL, Operator, ProcessOperator, has_helm, install_crd, installed
from modeldeploy.stand.ports import free_port
from modeldeploy.stand.process import Child, StartError, wait_until
from modeldeploy.stand.source import checkout

__all__ = [
    "INSTALL",
    "Child",
    "Operator",
    "ProcessOperator",
    "Stand",
    "StartError",
    "checkout",
    "free_port",
    "has_helm",
    "install_crd",
    "installed",
    "joined",
    "stand",
    "start_sandbox",
    "wait_until",
]
