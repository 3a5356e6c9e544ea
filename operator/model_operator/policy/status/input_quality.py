"""The condition `DataQuality`: whether requests look like the training data (`spec.monitoring.dataQuality`)."""

from collections.abc import Iterator, Mapping

from model_operator.api.inputs import OUTLIER, Finding
from model_operator.api.status import Condition, PodFailure
from model_operator.policy.rollout.context import RolloutContext

#: Reasons of a server that does not start because the package does not describe its training data.
_PROFILE_PROBLEMS = ("ReferenceProfileMissing", "ReferenceProfileMismatch")
#: The reason, by problem.
REASONS: Mapping[str, str] = {
    "missing": "MissingValues",
    "unseen_category": "UnseenCategories",
    "out_of_range": "OutOfRange",
    "wrong_type": "WrongType",
    OUTLIER: "Outliers",
}
#: What is wrong with a feature, by problem.
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "unseen_category": "is no category of the training data",
    "out_of_range": "is outside of the range of the training data",
    "wrong_type": "is of a wrong type",
}
_SHOWN = 3


def data_quality(s: RolloutContext) -> Iterator[tuple[str, str, str, str]]:
    """Yield the condition: type, status, reason and message."""
    if s.spec.monitoring.data_quality is None:
        return
    failure = next((one for one in s.status.pod_failures if _is_about_profile(one)), None)
    report, stable = s.stable_view.inputs, s.status.stable
    if failure is not None:
        yield "DataQuality", "Unknown", failure.reason, f"revision {failure.revision}: {failure.message}"
    elif report is None and (last := _last_judged(s)) is not None:
        yield "DataQuality", last.status, last.reason, last.message
    elif report is None:
        message = f"no pod of {stable} has compared requests with the training data yet"
        yield "DataQuality", "Unknown", "NotReported", message
    elif not report.has_requests:
        yield "DataQuality", "Unknown", "NoRequests", f"the pods of {stable} have received no request yet"
    elif report.findings:
        more = len(report.findings) - _SHOWN
        message = "; ".join(map(_sentence, report.findings[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")
        yield "DataQuality", "False", REASONS[report.findings[0].problem], message
    else:
        yield "DataQuality", "True", "WithinLimits", "no problem is more frequent than its limit"


def _is_about_profile(failure: PodFailure) -> bool:
    # A profile with other features than model.yaml lists is no valid model.yaml.
    is_metadata = failure.reason == "MetadataInvalid" and "reference_profile" in failure.message
    return failure.reason in _PROFILE_PROBLEMS or is_metadata


def _last_judged(s: RolloutContext) -> Condition | None:
    """Return what was found of the same revision before the operator started; it has not read the pods yet."""
    last = s.status.condition("DataQuality")
    is_same = s.resource.status.stable == s.status.stable
    return last if last and last.status != "Unknown" and is_same and s.stable_view.ready else None


def _sentence(one: Finding) -> str:
    allowed = f"({one.limit:.1%} are allowed)"
    # Where a problem has just begun, most of the recent rows came before it.
    share = f"{one.share:.1%} of recent rows" if one.share > one.limit else "more and more rows"
    if one.problem == OUTLIER:
        return f"{share} are far from the training data {allowed}"
    return f"{one.feature} {_WORDS[one.problem]} in {share} {allowed}"
