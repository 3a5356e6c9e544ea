"""A sandbox with the operator running against it, as child processes of this one.

The demo, `make sandbox`, the end-to-end tests and the benchmarks stand on it. Sandbox and operator
are started with `python -m`; nothing here imports them.
"""

from modeldeploy.stand.lifecycle import Stand, checkout, install_crd, stand, start_operator, start_sandbox, wait_until
from modeldeploy.stand.process import Child, StartError

__all__ = [
    "Child",
    "Stand",
    "StartError",
    "checkout",
    "install_crd",
    "stand",
    "start_operator",
    "start_sandbox",
    "wait_until",
]
