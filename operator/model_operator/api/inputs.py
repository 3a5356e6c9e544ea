"""What a model server finds in its requests, next to the training data (docs/wire.md), as frozen values."""

from dataclasses import dataclass

#: The problem of a row as a whole, which is of no feature.
OUTLIER = "outlier"
INPUT_PROBLEMS = ("missing", "unseen_category", "out_of_range", "wrong_type", OUTLIER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that is surely more frequent than its limit.

    `share` is that of recent rows, and `limit` the share up to which there is no finding. `feature` is empty for
    outliers.
    """

    feature: str
    problem: str
    share: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSample:
    """Requests that one server compared with the training data since its start, and what it finds now.

    A request is `bad` when one of its rows has a problem that is rare in the training data, and counts among
    `outliers` when one of its rows is one.
    """

    requests: int = 0
    bad: int = 0
    outliers: int = 0
    findings: tuple[Finding, ...] = ()
