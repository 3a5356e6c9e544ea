"""Tokens: annotations by which a person asks for something once (`modeldeploy.dev/promote: 6f8d@3`).

A token is `REVISION` or `REVISION@SUFFIX`. For `promote` the suffix is the number of the step that it
speaks of; elsewhere it only makes the value new. A value that was acted upon is remembered in status
until the annotation changes or goes, so a GitOps re-sync never acts twice.
"""

from collections.abc import Iterator, Mapping

from model_operator.api.resource import TOKENS
from model_operator.api.status import IgnoredAnnotation, Status
from model_operator.api.version import GROUP
from model_operator.policy.rollout.context import RolloutContext

_OF_CANARY = ("promote", "promote-full", "abort")


def is_asked(s: RolloutContext, token: str, revision: str) -> bool:
    """Whether a token asks for something about this revision and was not yet acted upon."""
    value = s.resource.tokens.get(token, "")
    named, _, suffix = value.partition("@")
    if not revision or named != revision or s.status.handled_tokens.get(token) == value:
        return False
    return token != "promote" or not suffix or suffix == str(s.status.step_index)  # noqa: S105


def handled(s: RolloutContext, token: str) -> Mapping[str, str]:
    """Return the remembered tokens with this one."""
    return {**s.status.handled_tokens, token: s.resource.tokens[token]}


def forget_withdrawn(s: RolloutContext) -> Status:
    """Return the status without the tokens whose annotation is gone: the same value may then ask again."""
    kept = {t: v for t, v in s.status.handled_tokens.items() if s.resource.tokens.get(t) == v}
    return s.changed(handled_tokens=kept) if kept != s.status.handled_tokens else s.status


def ignored_annotations(s: RolloutContext) -> Iterator[IgnoredAnnotation]:
    """Yield each annotation of ours that has no effect, with what is wrong and what would be right.

    A token that was acted upon is not one of them, nor is a right one that waits for its time.
    """
    for name in s.resource.unknown_annotations:
        yield IgnoredAnnotation(name=f"{GROUP}/{name}", value="", message=f"unknown; write one of: {', '.join(TOKENS)}")
    for name, value in s.resource.tokens.items():
        if s.status.handled_tokens.get(name) != value and (why := _why_ignored(s, name, value)):
            yield IgnoredAnnotation(name=f"{GROUP}/{name}", value=value, message=why)


def _why_ignored(s: RolloutContext, name: str, value: str) -> str:
    revision, _, suffix = value.partition("@")
    status = s.status
    if name in _OF_CANARY:
        if revision != status.canary:
            now = f"on its way is {status.canary}" if status.canary else "no rollout is on"
            return f"it names {revision!r}, but {now}"
        if name == "promote" and suffix and suffix != str(status.step_index):
            return f"it speaks of step index {suffix}, but the rollout is at {status.step_index}"
    if name == "retry" and revision != status.aborted:
        return f"it names {revision!r}, but {f'aborted is {status.aborted}' if status.aborted else 'none was aborted'}"
    if name == "undo" and s.observed.revision(revision).source is None:
        return f"no revision {revision!r} is kept; kept are: {', '.join(sorted(s.observed.revisions)) or 'none'}"
    return ""
