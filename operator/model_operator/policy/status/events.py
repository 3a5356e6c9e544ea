"""The Events for a change of status, derived from the old and the new status, so that none is missed."""

from collections.abc import Iterator
from dataclasses import dataclass

from model_operator.api.status import Phase, Status


@dataclass(frozen=True, slots=True)
class EventDraft:
    """One Kubernetes Event, of type Warning if `is_warning`, else Normal."""

    reason: str
    message: str
    is_warning: bool = False


def events(old: Status, new: Status) -> Iterator[EventDraft]:
    """Yield the Events for the change between two statuses of one resource."""
    if new.source and new.source != old.source:
        yield EventDraft("SourceChanged", f"the object at {new.source.uri} changed: it becomes a new revision")
    if new.retraining and (old.retraining is None or new.retraining.requested_at != old.retraining.requested_at):
        by = f"; Job {new.retraining.job} trains it" if new.retraining.job else ""
        message = f"revision {new.retraining.revision}: {new.retraining.reason}{by}"
        yield EventDraft("RetrainRequested", message, is_warning=True)
    if new.retraining and new.retraining.notified_at and new.retraining.problem not in ("", _problem(old)):
        yield EventDraft("RetrainFailed", f"Job {new.retraining.job}: {new.retraining.problem}", is_warning=True)
    if new.canary and new.canary != old.canary:
        yield EventDraft("RolloutStarted", f"the rollout of revision {new.canary} started; {new.stable} keeps serving")
    if new.weights.applied != old.weights.applied and new.canary:
        yield EventDraft("WeightSet", f"{new.weights.applied} % of the traffic for {new.canary}")
    if new.phase is Phase.PAUSED and new.pauses != old.pauses:
        yield EventDraft("RolloutPaused", f"{new.pauses[0].reason}: {new.message}")
    if new.phase is Phase.SLEEPING and old.phase is not Phase.SLEEPING:
        yield EventDraft("FellAsleep", new.message)
    if new.phase is Phase.WAKING and old.phase is not Phase.WAKING and new.sleep:
        yield EventDraft("Woken", f"revision {new.stable} is woken by {new.sleep.cause}")
    evaluation = new.evaluation or {}
    if evaluation.get("phase") == "Passed" and new.evaluation != old.evaluation:
        yield EventDraft("EvaluationPassed", f"{new.canary} on {evaluation['dataset']}: {evaluation['message']}")
    replay = new.replay or {}
    if replay.get("phase") == "Passed" and new.replay != old.replay:
        yield EventDraft("ReplayPassed", f"{new.canary}: {replay['message']}")
    # A canary without traffic is gone in the same pass.
    if new.rollback and new.rollback != old.rollback and old.phase is not Phase.ROLLING_BACK:
        message = f"{new.canary or old.canary} is being rolled back: {new.rollback.message}"
        yield EventDraft(new.rollback.reason, message, is_warning=new.rollback.reason != "Reverted")
    for token, answer in new.answers.items():
        if answer.is_accepted and answer != old.answers.get(token):
            by = f" by {answer.user}" if answer.user else ""
            yield EventDraft(
                "RequestAccepted", f"{token} of revision {answer.revision} requested{by}: {answer.message}"
            )
    yield from _ends(old, new)
    yield from _troubles(old, new)


def _problem(status: Status) -> str:
    return status.retraining.problem if status.retraining else ""


def _ends(old: Status, new: Status) -> Iterator[EventDraft]:
    recorded = {(entry.revision, entry.result, entry.at) for entry in old.history}
    for entry in new.history:
        if (entry.revision, entry.result, entry.at) in recorded:
            break
        text = f"revision {entry.revision}: {entry.result} ({entry.reason}){': ' if entry.message else ''}"
        is_warning = entry.result == "Aborted"
        yield EventDraft(f"Revision{entry.result}", text + entry.message, is_warning=is_warning)


def _troubles(old: Status, new: Status) -> Iterator[EventDraft]:
    recorded = {(failure.revision, failure.reason, failure.message) for failure in old.pod_failures}
    for failure in new.pod_failures:
        if (failure.revision, failure.reason, failure.message) not in recorded:
            yield EventDraft(failure.reason, f"revision {failure.revision}: {failure.message}", is_warning=True)
    for type_ in ("MonitoringReady", "ActivatorReady", "DataQuality", "AnnotationsAccepted", "SpecSupported"):
        before, after = old.condition(type_), new.condition(type_)
        if after and after.status == "False" and (before is None or before.message != after.message):
            yield EventDraft(after.reason, after.message, is_warning=True)
    before, after = old.condition("DataQuality"), new.condition("DataQuality")
    if before and before.status == "False" and after and after.status == "True":
        yield EventDraft("DataQualityRestored", "requests look like the training data again")
