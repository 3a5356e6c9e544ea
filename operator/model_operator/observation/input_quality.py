"""What all servers of a revision find in their requests, as one value that changes seldom: it ends in the status."""

from collections.abc import Iterable

from model_operator.api.inputs import OUTLIER, Finding, InputSample
from model_operator.observation.values import InputReport

#: A share that moved by less is not worth another write of the status.
_WORTH_A_WRITE = 0.25


def merged(samples: Iterable[InputSample | None]) -> InputReport | None:
    """Return what the servers of a revision find; None if none of them compares requests with the training data.

    Each server sees requests of its own: of a problem that several of them find the largest share counts.
    """
    found = [sample for sample in samples if sample is not None]
    if not found:
        return None
    largest: dict[tuple[str, str], Finding] = {}
    for sample in found:
        for one in sample.findings:
            key = one.feature, one.problem
            if key not in largest or largest[key].share < one.share:
                largest[key] = one
    return InputReport(has_requests=any(sample.requests for sample in found), findings=_ordered(largest.values()))


def with_unread(before: InputReport | None, after: InputReport | None) -> InputReport | None:
    """Return a report without an answer of some server, which may still find what it found before."""
    if before is None or after is None:
        return after or before
    known = {(one.feature, one.problem) for one in after.findings}
    kept = [one for one in before.findings if (one.feature, one.problem) not in known]
    return InputReport(
        has_requests=before.has_requests or after.has_requests, findings=_ordered([*after.findings, *kept])
    )


def refreshed(before: InputReport | None, after: InputReport | None) -> InputReport | None:
    """Return the newer report if it differs in more than a small change of shares, else the one before."""
    if before is None or after is None or before.has_requests != after.has_requests:
        return after
    earlier = {(one.feature, one.problem): one.share for one in before.findings}
    if earlier.keys() != {(one.feature, one.problem) for one in after.findings}:
        return after
    pairs = [(earlier[one.feature, one.problem], one) for one in after.findings]
    is_close = all(
        abs(one.share - share) < _WORTH_A_WRITE and (share > one.limit) == (one.share > one.limit)
        for share, one in pairs
    )
    return before if is_close else after


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (one.problem == OUTLIER, -one.share, one.feature)))
