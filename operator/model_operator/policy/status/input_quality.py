"""The condition `DataQuality`: whether requests look like the training data (`spec.monitoring.dataQuality`)."""

from collections.abc import Iterator, Mapping

from model_operator.api.inputs import OUTLIER, Finding
from model_operator.api.status import Condition
from model_operator.policy.rollout.context import RolloutContext

DATA_QUALITY = "DataQuality"
#: Reasons of a server that does not start because the package does not describe its training data.
PROFILE_PROBLEMS = ("ReferenceProfileMissing", "ReferenceProfileMismatch")
#: By problem: the reason, and what is wrong with a feature.
_PROBLEMS: Mapping[str, tuple[str, str]] = {
    "missing": ("MissingValues", "is missing"),
    "unseen_category": ("UnseenCategories", "is no category of the training data"),
    "out_of_range": ("OutOfRange", "is outside of the range of the training data"),
    "wrong_type": ("WrongType", "is of a wrong type"),
    OUTLIER: ("Outliers", ""),
}
_SHOWN = 3


def data_quality(s: RolloutContext) -> Iterator[tuple[str, str, str, str]]:
    """Yield the condition: type, status, reason and message."""
    if s.spec.monitoring.data_quality is None:
        return
    failure = next((one for one in s.status.pod_failures if one.reason in PROFILE_PROBLEMS), None)
    report, stable = s.stable_view.inputs, s.status.stable
    if failure is not None:
        yield DATA_QUALITY, "Unknown", failure.reason, f"revision {failure.revision}: {failure.message}"
    elif report is None and (last := _last_judged(s)) is not None:
        yield DATA_QUALITY, last.status, last.reason, last.message
    elif report is None:
        message = f"no pod of {stable} has compared requests with the training data yet"
        yield DATA_QUALITY, "Unknown", "NotReported", message
    elif not report.has_requests:
        yield DATA_QUALITY, "Unknown", "NoRequests", f"the pods of {stable} have received no request yet"
    elif report.findings:
        reason, _ = _PROBLEMS[report.findings[0].problem]
        more = len(report.findings) - _SHOWN
        sentences = "; ".join(map(_sentence, report.findings[:_SHOWN]))
        yield DATA_QUALITY, "False", reason, f"{sentences}; and {more} more" if more > 0 else sentences
    else:
        yield DATA_QUALITY, "True", "WithinLimits", "no problem is more frequent than its limit"


def _last_judged(s: RolloutContext) -> Condition | None:
    """Return what was found of the same revision before the operator started; it has not read the pods yet."""
    last = s.status.condition(DATA_QUALITY)
    is_same = s.resource.status.stable == s.status.stable
    return last if last and last.status != "Unknown" and is_same and s.stable_view.ready else None


def _sentence(one: Finding) -> str:
    allowed = f"({one.limit:.1%} are allowed)"
    # Where a problem has just begun, most of the recent rows came before it.
    share = f"{one.share:.1%} of recent rows" if one.share > one.limit else "more and more rows"
    if one.problem == OUTLIER:
        return f"{share} are far from the training data {allowed}"
    return f"{one.feature} {_PROBLEMS[one.problem][1]} in {share} {allowed}"
