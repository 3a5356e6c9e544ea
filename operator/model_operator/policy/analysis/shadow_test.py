"""The judge of two revisions that answer the same requests: `shadow-agreement` and `shadow-distance`. Pure.

A request and the copy that a router mirrors to the canary have the same digest, and so have requests that happen to be
alike: whatever both revisions answered since the last look but one is a pair, once at each look.

Every pair has a badness y. `shadow-agreement`: 1 when the answers differ, 0 when they agree. They agree when they have
as many values and each is the same label, or a number within `tolerance` (or within a millionth of it, for libraries
round differently). FAIL tests H0 "P(y = 1) <= 1 - min" and PASS H0 "P(y = 1) >= 1 - min", both by the likelihood
ratios of `judge`, on totals alone. Where all have to agree (`min` 1), one that does not decides, and nothing can prove
the opposite: the metric fails and never passes.

`shadow-distance`: the mean over the values of |canary - stable|, or of that divided by the larger of the two. FAIL
tests H0 "E y <= max" and PASS H0 "E y >= max" by the mixture of `quality`, in units of `max`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import SHADOW_AGREEMENT, Metric
from model_operator.api.json import Body
from model_operator.api.shadow import Prediction
from model_operator.api.sums import SumStats
from model_operator.observation.values import Outcome
from model_operator.policy.analysis import rate_test as rates
from model_operator.policy.analysis.feedback_test import FEWEST, mixture
from model_operator.policy.analysis.provider_state import ProviderBacked, outage_body, outage_of

#: What the canary and stable answered to one request.
Pair = tuple[Prediction, Prediction]

#: Numbers of this relative distance are the same: batches and libraries round differently.
ROUNDING = 1e-6
#: Evidence that is a proof; JSON has no infinity.
_PROOF = 1e9
#: Predictions of one worker between two looks that fit into half of what it keeps.
_MOST_KEPT = 512
_RAREST = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Answers of the last look whose counterpart has not been seen, by request."""

    canary: Mapping[str, Prediction] = field(default_factory=dict)
    stable: Mapping[str, Prediction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored(ProviderBacked):
    """What is known so far: how many pairs there were, and the badness of those that have one."""

    pairs: int = 0
    badness: SumStats = field(default_factory=SumStats)


def join(
    waiting: Waiting, canary: Iterable[Prediction], stable: Iterable[Prediction]
) -> tuple[Sequence[Pair], Waiting]:
    """Return the pairs that a look completes, and what still waits; a request counts once at each look."""
    ours, theirs = {one.request: one for one in canary}, {one.request: one for one in stable}
    all_ours, all_theirs = {**waiting.canary, **ours}, {**waiting.stable, **theirs}
    pairs = [(all_ours[request], all_theirs[request]) for request in all_ours if request in all_theirs]
    rest = Waiting(
        canary={request: one for request, one in ours.items() if request not in all_theirs},
        stable={request: one for request, one in theirs.items() if request not in all_ours},
    )
    return pairs, rest


def next_every(every: int, kept: int) -> int:
    """Return how many requests to keep one of, after a worker has kept `kept` between two looks.

    Powers of two: what is kept at 8 would have been kept at 4 as well, so that a change breaks no pair.
    """
    wanted = max(kept * every / _MOST_KEPT, 1)
    return int(min(2 ** math.ceil(math.log2(wanted)), _RAREST))


def learn(metric: Metric, known: Mirrored, pairs: Sequence[Pair]) -> Mirrored:
    """Return what is known with the pairs of one more look."""
    values = [value for ours, theirs in pairs if (value := badness(metric, ours, theirs)) is not None]
    seen = SumStats(count=len(values), total=sum(values), squares=sum(value * value for value in values))
    return Mirrored(pairs=known.pairs + len(pairs), badness=known.badness + seen)


def badness(metric: Metric, ours: Prediction, theirs: Prediction) -> float | None:
    """Return the badness of one pair; None when it has none: labels have no distance."""
    if metric.name == SHADOW_AGREEMENT:
        return 0.0 if agree(ours, theirs, metric.tolerance) else 1.0
    return distance(ours, theirs, relative=metric.relative)


def agree(ours: Prediction, theirs: Prediction, tolerance: float) -> bool:
    """Whether two answers are the same."""
    if ours.size != theirs.size or ours.labels != theirs.labels or len(ours.numbers) != len(theirs.numbers):
        return False
    return all(
        a == b if a is None or b is None else math.isclose(a, b, rel_tol=ROUNDING, abs_tol=tolerance)
        for a, b in zip(ours.numbers, theirs.numbers, strict=True)
    )


def distance(ours: Prediction, theirs: Prediction, *, relative: bool) -> float | None:
    """Return the mean distance of two answers' numbers; None when they are none, or not as many."""
    if ours.size != theirs.size:
        return None
    finite = [(a, b) for a, b in zip(ours.numbers, theirs.numbers, strict=False) if a is not None and b is not None]
    if not finite:
        return None
    return sum(_relative(a, b) if relative else abs(a - b) for a, b in finite) / len(finite)


def _relative(a: float, b: float) -> float:
    largest = max(abs(a), abs(b))
    return abs(a - b) / largest if largest else 0.0


def judge(metric: Metric, known: Mirrored, decides_at: float) -> Outcome:
    """Return the verdict; `decides_at` is 1/alpha of this metric's share of alpha."""
    if fail_evidence(metric, known) >= decides_at:
        return Outcome.FAIL
    return Outcome.PASS if _pass_evidence(metric, known) >= decides_at else Outcome.UNDECIDED


def fail_evidence(metric: Metric, known: Mirrored) -> float:
    """Return E against the canary."""
    if metric.name != SHADOW_AGREEMENT:
        return _distance_e_value(metric, known, sign=1)
    limit, differing = _limit(metric), round(known.badness.total)
    if not limit:
        return _PROOF if differing else 1.0
    return rates.limit_e_value(round(known.badness.count), differing, limit)


def _pass_evidence(metric: Metric, known: Mirrored) -> float:
    if metric.name != SHADOW_AGREEMENT:
        return _distance_e_value(metric, known, sign=-1)
    return rates.e_value(_evidence(metric, known).pass_rate) if metric.can_pass else 1.0


def _distance_e_value(metric: Metric, known: Mirrored, *, sign: int) -> float:
    """Return E against H0 "sign * (mean - max) <= 0"."""
    if known.badness.count < FEWEST or not metric.maximum:
        return 1.0
    unit = metric.maximum
    scaled = SumStats(
        count=known.badness.count, total=known.badness.total / unit, squares=known.badness.squares / unit**2
    )
    return mixture(sign * (scaled.total - scaled.count) / math.sqrt(scaled.variance), scaled.count)


def _limit(metric: Metric) -> float:
    """Return the largest share of answers that may differ."""
    return 1 - metric.minimum if metric.minimum is not None else 0.0


def _as_rate(metric: Metric) -> Metric:
    return Metric(name=metric.name, pass_rate=_limit(metric) or None)


def _evidence(metric: Metric, known: Mirrored) -> rates.Evidence:
    """Return the evidence for "fewer than the limit differ", which follows from the totals."""
    counts = rates.Counts(canary=round(known.badness.count), canary_bad=round(known.badness.total))
    return rates.learn(_as_rate(metric), rates.Evidence(), counts)


def tell(metric: Metric, known: Mirrored, decides_at: float) -> str:
    """Return the numbers that decide, in one line."""
    name, count = metric.name, round(known.badness.count)
    if known.problem:
        return f"{name}: {known.problem}"
    if not known.pairs:
        return f"{name}: no mirrored requests yet: setMirrorRoute copies requests to the canary"
    e_value = f"E {fail_evidence(metric, known):.3g} of {decides_at:.0f}"
    if metric.name == SHADOW_AGREEMENT:
        agreeing = count - round(known.badness.total)
        line = (
            f"{name}: {agreeing} of {count} mirrored requests agree ({agreeing / count:.2%}),"
            f" at least {metric.minimum or 0:.4g} wanted, {e_value}"
        )
        more = _needed(metric, known, decides_at)
        return line if more is None else f"{line}, needs about {more} more requests"
    if not count:
        return f"{name}: {known.pairs} mirrored requests, none with numbers in both answers: use {SHADOW_AGREEMENT}"
    line = f"{name}: mean {known.badness.mean:.4g} of {count} mirrored requests, {metric.maximum or 0:.4g} allowed"
    return f"{line}, {e_value}" if count >= FEWEST else f"{line}, judged from {FEWEST}"


def _needed(metric: Metric, known: Mirrored, decides_at: float) -> int | None:
    if not metric.can_pass or judge(metric, known, decides_at) is not Outcome.UNDECIDED:
        return None
    return rates.needed(_as_rate(metric), _evidence(metric, known), decides_at)


def body(metric: Metric, known: Mirrored, decides_at: float) -> dict[str, Any]:
    """Return what status shows and remembers."""
    total = known.badness
    shown: dict[str, Any] = {
        "failAt": decides_at,
        "evidence": round(fail_evidence(metric, known), 3),
        "mirrored": known.pairs,
        "state": {"badness": [total.count, total.total, total.squares]},
    }
    if total.count:
        shown["value"] = round(1 - total.mean if metric.name == SHADOW_AGREEMENT else total.mean, 6)
    if metric.name == SHADOW_AGREEMENT and known.pairs:
        more = _needed(metric, known, decides_at)
        shown |= {} if more is None else {"needRequests": more}
    return shown | outage_body(known)


def read(entry: Body) -> Mirrored:
    """Read back what `body` wrote."""
    count, total, squares = entry["state"]["badness"]
    return Mirrored(
        pairs=entry["mirrored"],
        badness=SumStats(count=count, total=float(total), squares=float(squares)),
        **outage_of(entry),
    )
