"""Pairs of predictions in which canary and stable answered the same request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from model_operator.api.shadow import Prediction
from model_operator.policy.analysis.metric_test import Pair

#: Half of the number of predictions that one worker keeps between two polls.
_MAX_KEPT = 512
_MAX_EVERY = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """Predictions of the last poll without a counterpart, by request."""

    canary: Mapping[str, Prediction] = field(default_factory=dict)
    stable: Mapping[str, Prediction] = field(default_factory=dict)


def pair_predictions(
    unpaired: Unpaired, canary: Iterable[Prediction], stable: Iterable[Prediction]
) -> tuple[Sequence[Pair], Unpaired]:
    """Return the pairs that a poll completes, and the unpaired predictions; a request counts once in each poll."""
    ours, theirs = {one.request: one for one in canary}, {one.request: one for one in stable}
    all_ours, all_theirs = {**unpaired.canary, **ours}, {**unpaired.stable, **theirs}
    pairs = [(all_ours[request], all_theirs[request]) for request in all_ours if request in all_theirs]
    rest = Unpaired(
        canary={request: one for request, one in ours.items() if request not in all_theirs},
        stable={request: one for request, one in theirs.items() if request not in all_ours},
    )
    return pairs, rest


def next_every(every: int, kept: int) -> int:
    """Return the sampling period, one request in so many, after a worker has kept `kept` between two polls.

    Periods are powers of two: a request sampled at 8 is sampled at 4 as well, so that a change breaks no pair.
    """
    interval = max(kept * every / _MAX_KEPT, 1)
    return int(min(2 ** math.ceil(math.log2(interval)), _MAX_EVERY))
