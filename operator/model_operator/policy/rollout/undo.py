"""Undo: the spec is set back to what an earlier revision was made from. Pure; `engine.reconcile` writes the patch."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.identity import asked_for
from model_operator.api.merge_patch import merge_patch
from model_operator.api.resource import ModelDeployment
from model_operator.api.status import RequestAnswer
from model_operator.observation.values import Observed


def undo(resource: ModelDeployment, observed: Observed) -> Mapping[str, Any] | RequestAnswer | None:
    """Return the patch of `spec` that a request for an undo still needs, or the answer to it; None without a request.

    After a patch, and after a restart of the operator between the two writes, nothing is left to patch: then the
    request is done.
    """
    value = resource.tokens.get("undo", "")
    if not value or resource.status.handled_tokens.get("undo") == value:
        return None
    revision = value.partition("@")[0]
    source = observed.revision(revision).source
    if source is None:
        kept = ", ".join(sorted(observed.revisions)) or "none"
        return RequestAnswer(value, is_accepted=False, message=f"no revision {revision!r} is kept; kept are: {kept}")
    patch = merge_patch(asked_for(resource.spec.revision_source), asked_for(source))
    if patch:
        return patch
    if resource.target != revision:
        return RequestAnswer(value, is_accepted=False, message=_only_the_artifact_differs(resource, revision))
    return RequestAnswer(value, is_accepted=True, message=f"the spec asks for revision {revision} again")


def _only_the_artifact_differs(resource: ModelDeployment, revision: str) -> str:
    return (
        f"revision {revision} has the same spec as {resource.target}: only the object at"
        f" {resource.spec.model.storage_uri} has changed, and its former content is not kept;"
        " upload that again, or set storageUri to where it is"
    )
