"""Request annotations, by which a user requests an action once (`modeldeploy.dev/promote: 6f8d@3`).

A request is `REVISION` or `REVISION@SUFFIX`. For `promote`, the suffix begins with the index of the step that it
applies to (`6f8d@3` or `6f8d@3/1764367200`); otherwise it only makes the value unique. `REVISION@SUFFIX by USER` names
the user who makes the request; the policy `rolloutVerbs` of the chart rejects another name.

Every value is answered once, in the first pass in which the rollout is at rest: an action that is impossible then is
rejected, and not done later. Answers are kept in status until the annotation changes or is removed, so that a GitOps
controller that writes the same value again requests nothing.
"""

from collections.abc import Iterator
from typing import Any

from model_operator.api.resource import TOKENS
from model_operator.api.status import REQUESTED_BY, IgnoredAnnotation, Phase, RequestAnswer, Status
from model_operator.api.steps import Analysis, Compare, Pause
from model_operator.api.values import replace
from model_operator.api.version import GROUP
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.pauses import PauseReason

_OF_CANARY = ("promote", "promote-full", "abort")
#: Annotations that are part of the revision, and are never answered.
_STATE = frozenset({"refresh"})


def is_asked(s: RolloutContext, token: str, revision: str) -> bool:
    """Whether there is a request for this revision that was not answered yet."""
    value = s.resource.tokens.get(token, "")
    if not revision or value.partition("@")[0] != revision or s.status.handled_tokens.get(token) == value:
        return False
    return token != "promote" or _step_of(value) in ("", str(s.status.step_index))  # noqa: S105


def _step_of(value: str) -> str:
    return value.partition(REQUESTED_BY)[0].partition("@")[2].partition("/")[0]


def accepted(s: RolloutContext, token: str, message: str) -> dict[str, Any]:
    """Return the fields of a status in which a request is accepted."""
    return _answered(s.status, token, RequestAnswer(s.resource.tokens[token], is_accepted=True, message=message))


def refused(status: Status, token: str, value: str, message: str) -> Status:
    """Return the status in which a request is rejected."""
    return replace(status, **_answered(status, token, RequestAnswer(value, is_accepted=False, message=message)))


def _answered(status: Status, token: str, answer: RequestAnswer) -> dict[str, Any]:
    return {
        "handled_tokens": {**status.handled_tokens, token: answer.value},
        "answers": {**status.answers, token: answer},
    }


def forget_withdrawn(s: RolloutContext) -> Status:
    """Return the status without answers to removed annotations, so that the same value can be used again."""
    kept = {t: v for t, v in s.status.handled_tokens.items() if s.resource.tokens.get(t) == v}
    answers = {t: answer for t, answer in s.status.answers.items() if s.resource.tokens.get(t) == answer.value}
    return s.changed(handled_tokens=kept, answers=answers)


def answer_the_rest(s: RolloutContext) -> Status:
    """Reject the requests that no rule has accepted; the rollout is at rest.

    A promotion that waits for a closed gate is accepted, and done when the gate opens.
    """
    status = s.status
    for token, value in s.resource.tokens.items():
        if token in _STATE or token == "undo" or status.handled_tokens.get(token) == value:  # noqa: S105
            continue
        if is_held_by_gate(s, token):
            answer = RequestAnswer(value, is_accepted=True, message="the rollout continues as soon as the gates open")
            status = replace(status, answers={**status.answers, token: answer})
        else:
            status = refused(status, token, value, why_refused(s, token, value))
    return status


def is_held_by_gate(s: RolloutContext, token: str) -> bool:
    """Whether a promotion waits for a gate."""
    is_at_gate = any(condition.reason == PauseReason.GATE for condition in s.status.pauses)
    return is_at_gate and token in ("promote", "promote-full") and is_asked(s, token, s.status.canary)


def why_refused(s: RolloutContext, token: str, value: str) -> str:
    """Return why a request is impossible now, and what the user can do instead."""
    revision, status = value.partition("@")[0], s.status
    if token == "retry":  # noqa: S105
        return _why_not_retried(s, revision)
    if revision != status.canary:
        now = f"the rollout is of {status.canary}" if status.canary else "there is no rollout"
        return f"it names {revision!r}, but {now}"
    if status.phase is Phase.ROLLING_BACK:
        return f"{status.canary} is being rolled back"
    if s.spec.paused:
        return "the rollout is held by spec.paused; resume it first"
    if status.phase is Phase.PROMOTING:
        return f"{status.canary} is being promoted to all traffic already"
    step = _step_of(value)
    if token == "promote" and step and step != str(status.step_index):  # noqa: S105
        return f"it applies to step index {step}, but the rollout is at {status.step_index}"
    return f"the rollout is not paused for a user: {_running_step(s)}; promote --full skips all remaining steps"


def _why_not_retried(s: RolloutContext, revision: str) -> str:
    if revision != s.status.aborted:
        aborted = f"{s.status.aborted} was aborted" if s.status.aborted else "no revision was aborted"
        return f"it names {revision!r}, but {aborted}"
    return "the model is held by spec.paused; resume it first" if s.spec.paused else "the model is scaled to zero"


def _running_step(s: RolloutContext) -> str:
    where = f"step {s.status.step_index + 1} of {len(s.steps)}"
    match s.current_step:
        case Analysis():
            return f"the analysis of {where} is still running"
        case Compare():
            return f"the A/B test of {where} is still running"
        case Pause():
            return f"{where} waits for the router"
    return f"{where} is not done yet"


def ignored_annotations(s: RolloutContext) -> Iterator[IgnoredAnnotation]:
    """Yield each annotation of modeldeploy.dev without an effect, with its problem and what to write instead."""
    for name in s.resource.unknown_annotations:
        yield IgnoredAnnotation(name=f"{GROUP}/{name}", value="", message=f"unknown; write one of: {', '.join(TOKENS)}")
    for token, answer in sorted(s.status.answers.items()):
        if not answer.is_accepted:
            yield IgnoredAnnotation(name=f"{GROUP}/{token}", value=answer.value, message=answer.message)
