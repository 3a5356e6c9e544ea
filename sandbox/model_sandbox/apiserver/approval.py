"""Approval of definitions in Kubernetes' own groups, `*.k8s.io` and `*.kubernetes.io`. Pure; `crds.py` asks.

https://kubernetes.io/docs/reference/labels-annotations-taints/#api-approved-kubernetes-io
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from model_sandbox.apiserver.errors import Cause, Obj, go_value, invalid_value, required

APPROVED = "api-approved.kubernetes.io"
_APPROVAL = "KubernetesAPIApprovalPolicyConformant"
_MORE = "see https://github.com/kubernetes/enhancements/pull/1111"
_EITHER = 'with either a URL or a reason starting with "unapproved", '


def approval(body: Obj) -> tuple[str, str, str]:
    """Status, reason and message of a definition's approval, empty for groups that need none."""
    group, annotations = f".{body['spec'].get('group', '')}", body["metadata"].get("annotations") or {}
    given, told = annotations.get(APPROVED, ""), f"protected groups must have approval annotation {go_value(APPROVED)}"
    if not group.endswith((".k8s.io", ".kubernetes.io")):
        return "", "", ""
    if not given:
        return "False", "MissingAnnotation", f"{told}, {_MORE}"
    if given.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {go_value(given)}"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]", given):
        return "True", "ApprovedAnnotation", f"approved in {given}"
    return "False", "InvalidAnnotation", f"{told} {_EITHER}{_MORE}"


def approval_condition(body: Obj, conditions: Sequence[Obj]) -> Obj | None:
    """The condition that says whether a definition is approved, None when the given ones have it or it needs none."""
    status, reason, message = approval(body)
    condition = {"type": _APPROVAL, "status": status, "reason": reason, "message": message}
    return condition if status and not any(condition.items() <= one.items() for one in conditions) else None


def approval_causes(body: Obj, old: Obj | None) -> list[Cause]:
    """What is wrong with a definition's approval; a state that `old` has too is not judged."""
    _, reason, why = approval(body)
    path = f"metadata.annotations[{APPROVED}]"
    if old is not None and approval(old)[1] == reason:
        return []
    if reason == "MissingAnnotation":
        return [required(path, why)]
    if reason == "InvalidAnnotation":
        return [invalid_value(path, body["metadata"]["annotations"][APPROVED], why)]
    return []
