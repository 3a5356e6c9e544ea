"""Undo: restores the spec of an earlier revision. Pure; `engine.reconcile` writes the patch."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.identity import asked_for
from model_operator.api.merge_patch import merge_patch
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import RequestAnswer
from model_operator.observation.values import Observed


def undo(resource: ModelDeployment, observed: Observed) -> Mapping[str, Any] | RequestAnswer | None:
    """Return the remaining patch of `spec` for a requested undo, or the answer to the request; None without a request.

    After the patch, also if the operator restarts between the two writes, no difference is left: then the request is
    accepted.
    """
    value = resource.tokens.get("undo", "")
    if not value or resource.status.handled_tokens.get("undo") == value:
        return None
    revision = value.partition("@")[0]
    source = observed.revision(revision).source
    if source is None:
        kept = ", ".join(sorted(observed.revisions)) or "none"
        message = f"revision {revision!r} is not kept; the kept revisions are: {kept}"
        return RequestAnswer(value, is_accepted=False, message=message)
    patch = merge_patch(asked_for(resource.spec.revision_source), asked_for(source))
    if patch:
        return patch
    if resource.target != revision:
        return RequestAnswer(value, is_accepted=False, message=_only_the_artifact_differs(resource, revision))
    return RequestAnswer(value, is_accepted=True, message=f"the spec has revision {revision} again")


def _only_the_artifact_differs(resource: ModelDeployment, revision: str) -> str:
    return (
        f"revision {revision} has the same spec as {resource.target}: only the object at"
        f" {resource.spec.model.storage_uri} has changed, and its former content is not kept;"
        " upload that again, or set storageUri to where it is"
    )
