"""Which answers of canary and stable are a pair: both revisions answered the same request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from model_operator.api.shadow import Prediction
from model_operator.policy.analysis.metric_test import Pair

#: Predictions of one worker between two polls that fit into half of what it keeps.
_MAX_KEPT = 512
_MAX_EVERY = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """Answers of the last poll without a counterpart, by request."""

    canary: Mapping[str, Prediction] = field(default_factory=dict)
    stable: Mapping[str, Prediction] = field(default_factory=dict)


def pair_predictions(
    unpaired: Unpaired, canary: Iterable[Prediction], stable: Iterable[Prediction]
) -> tuple[Sequence[Pair], Unpaired]:
    """Return the pairs that a poll completes, and what is left; a request counts once in each poll."""
    ours, theirs = {one.request: one for one in canary}, {one.request: one for one in stable}
    all_ours, all_theirs = {**unpaired.canary, **ours}, {**unpaired.stable, **theirs}
    pairs = [(all_ours[request], all_theirs[request]) for request in all_ours if request in all_theirs]
    rest = Unpaired(
        canary={request: one for request, one in ours.items() if request not in all_theirs},
        stable={request: one for request, one in theirs.items() if request not in all_ours},
    )
    return pairs, rest


def next_every(every: int, kept: int) -> int:
    """Return how many requests to keep one of, after a worker has kept `kept` between two polls.

    Powers of two: what is kept at 8 would have been kept at 4 as well, so that a change breaks no pair.
    """
    wanted = max(kept * every / _MAX_KEPT, 1)
    return int(min(2 ** math.ceil(math.log2(wanted)), _MAX_EVERY))
