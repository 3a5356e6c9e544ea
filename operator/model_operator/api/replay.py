"""Replays of a candidate (docs/wire.md), as values; `policy.rollout.replay` judges them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_operator.api.sums import SumStats

#: Bytes of a sample of requests with their answers, in both directions.
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequests:
    """The number of requests that a worker of stable has kept, and if asked for, each with stable's answer, as JSON."""

    kept: int
    requests: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTimes:
    """Median and 95th percentile of the time for an answer, in seconds."""

    median: float = 0.0
    p95: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayFault:
    """Number of requests that the candidate refused because of a feature, or for a reason."""

    feature: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """What a candidate answered to `requests`: `agreed` as stable did, `refused` not at all, the rest otherwise.

    `slower` of the `timed` answers took longer than allowed, by the time of stable for the same request.
    """

    requests: int
    agreed: int
    refused: int = 0
    faults: tuple[ReplayFault, ...] = ()
    distance: SumStats = field(default_factory=SumStats)
    timed: int = 0
    slower: int = 0
    stable: ReplayTimes = field(default_factory=ReplayTimes)
    canary: ReplayTimes = field(default_factory=ReplayTimes)
