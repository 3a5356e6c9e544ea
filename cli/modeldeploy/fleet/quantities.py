"""Quantities of Kubernetes (`250m`, `1.5Gi`) as numbers. PURE.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GIB = float(2**30)
_FACTORS = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3} | {
    unit: base**power
    for base, units in ((1000.0, ("k", "M", "G", "T", "P", "E")), (1024.0, ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")))
    for power, unit in enumerate(units, 1)
}
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Processors, bytes of memory and graphics processors."""

    cpu: float = 0.0
    memory: float = 0.0
    gpus: float = 0.0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(cpu=self.cpu + other.cpu, memory=self.memory + other.memory, gpus=self.gpus + other.gpus)


NOTHING = Resources()


def number_of(quantity: object) -> float:
    """Return a quantity as a number; 0 for one that cannot be read."""
    found = _QUANTITY.fullmatch(str(quantity).strip())
    try:
        return float(found[1]) * _FACTORS[found[2]] if found else 0.0
    except (KeyError, ValueError):
        return 0.0


def requested_by(containers: Iterable[Mapping[str, Any]]) -> Resources:
    """Return what the containers of a pod request; a limit stands for a request that is left out."""
    total = NOTHING
    for container in containers:
        resources = container.get("resources") or {}
        asked: Mapping[str, Any] = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        total += Resources(
            cpu=number_of(asked.get("cpu", 0)),
            memory=number_of(asked.get("memory", 0)),
            gpus=sum(number_of(value) for name, value in asked.items() if name.endswith("/gpu")),
        )
    return total
