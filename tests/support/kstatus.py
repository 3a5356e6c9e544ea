"""The status that kstatus computes of a custom resource, which Flux and `kubectl` plugins wait for.

The rules are those of https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md: deletion first,
then the generation, then the first of the conditions Reconciling and Stalled that is True, then Ready. A resource
without any of them is Current.
"""

from collections.abc import Mapping
from typing import Any


def kstatus(body: Mapping[str, Any]) -> str:
    """Return InProgress, Failed, Current or Terminating."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions", ())
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = [condition["status"] for condition in conditions if condition["type"] == "Ready"]
    return "InProgress" if ready and ready[0] != "True" else "Current"
