"""Tokens: annotations by which a person asks for something once (`modeldeploy.dev/promote: 6f8d@3`).

A token is `REVISION` or `REVISION@SUFFIX`. For `promote` the suffix is the number of the step that it
speaks of; elsewhere it only makes the value new. A value that was acted upon is remembered in status
until the annotation changes or goes, so a GitOps re-sync never acts twice.
"""

from collections.abc import Mapping

from model_operator.api.status import Status
from model_operator.policy.situation import Situation


def is_asked(s: Situation, token: str, revision: str) -> bool:
    """Whether a token asks for something about this revision and was not yet acted upon."""
    value = s.resource.tokens.get(token, "")
    named, _, suffix = value.partition("@")
    if not revision or named != revision or s.status.handled_tokens.get(token) == value:
        return False
    return token != "promote" or not suffix or suffix == str(s.status.step_index)  # noqa: S105


def handled(s: Situation, token: str) -> Mapping[str, str]:
    """Return the remembered tokens with this one."""
    return {**s.status.handled_tokens, token: s.resource.tokens[token]}


def forget_withdrawn(s: Situation) -> Status:
    """Return the status without the tokens whose annotation is gone: the same value may then ask again."""
    kept = {t: v for t, v in s.status.handled_tokens.items() if s.resource.tokens.get(t) == v}
    return s.changed(handled_tokens=kept) if kept != s.status.handled_tokens else s.status
