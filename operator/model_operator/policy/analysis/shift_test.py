"""The judge of prediction shift: how far the canary's answers are from stable's. Pure; `analysis` calls it.

The population stability index of two histograms p (canary) and q (stable) over the same bins is

    PSI = sum (p_k - q_k) ln(p_k / q_k)

It is never negative, so that noise alone makes a distance: with n_c and n_s answers in K bins, about
(K - 1)(1/n_c + 1/n_s) of it, which is taken off. Its deviation is the delta method's plus that noise's own.

Stable's histogram is that of the same wall-clock intervals: each interval of stable counts as much as the canary's
does, so that a change of the inputs while the weight grows is no shift. Answers in bins with fewer than `RAREST` of
the whole are taken together: a bin that hardly occurs has no share worth comparing.

FAIL when the index is surely above the metric's `maximum`, PASS when it is surely below. It is looked at when the
answers have grown by half since the last look, and look j may err with probability alpha / (j (j + 1)), alpha in all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from model_operator.api.analysis import Metric
from model_operator.api.json import Body
from model_operator.api.values import replace
from model_operator.observation.values import Outcome

Bins = Mapping[str, float]

#: Answers of each revision before the first look.
FEWEST = 200
GROWTH = 1.5
RAREST = 0.01
#: A PSI above this is a shift by common practice, where the spec does not say it.
DEFAULT_MAXIMUM = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The answers of both revisions in one interval, by class or bucket."""

    canary: Bins = field(default_factory=dict)
    stable: Bins = field(default_factory=dict)

    def __add__(self, other: "Outputs") -> "Outputs":
        return Outputs(canary=_sum(self.canary, other.canary), stable=_sum(self.stable, other.stable))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What is known so far.

    `stable` holds stable's shares of each interval times the canary's answers in it, `spread` the sum of
    n_c^2 / n_s over the intervals. `looks` were taken, the last one at `looked_at` answers.
    """

    canary: Bins = field(default_factory=dict)
    stable: Bins = field(default_factory=dict)
    spread: float = 0.0
    looks: int = 0
    looked_at: float = 0.0
    outcome: Outcome = Outcome.UNDECIDED

    @property
    def answers(self) -> float:
        """The answers of the canary."""
        return sum(self.canary.values())

    @property
    def of_stable(self) -> float:
        """The answers of stable that would tell as much as those of the intervals do."""
        return self.answers**2 / self.spread if self.spread else 0.0

    @property
    def size(self) -> float:
        """The answers of the revision that has fewer of them."""
        return min(self.answers, self.of_stable)

    @property
    def next_look(self) -> float:
        """The size from which the next look is taken."""
        return max(FEWEST, GROWTH * self.looked_at)


def learn(metric: Metric, known: Shift, outputs: Outputs, decides_at: float) -> Shift:
    """Return what is known with one more interval; one without answers of both says nothing."""
    ours, theirs = sum(outputs.canary.values()), sum(outputs.stable.values())
    if not ours or not theirs:
        return known
    known = replace(
        known,
        canary=_sum(known.canary, outputs.canary),
        stable=_sum(known.stable, {name: count * ours / theirs for name, count in outputs.stable.items()}),
        spread=known.spread + ours**2 / theirs,
    )
    if known.size < known.next_look:
        return known
    looks = known.looks + 1
    return replace(
        known, looks=looks, looked_at=known.size, outcome=_look(known, limit_of(metric), 1 / decides_at, looks)
    )


def limit_of(metric: Metric) -> float:
    """Return the largest distance that is allowed."""
    return DEFAULT_MAXIMUM if metric.maximum is None else metric.maximum


def distance(known: Shift) -> tuple[float, float]:
    """Return the PSI without the part that noise makes, and its standard deviation."""
    ours, theirs, together = known.answers, known.of_stable, _common_bins(known)
    if not ours or not theirs or len(together) < 2:
        return 0.0, 0.0
    # Half an answer more in each bin: an empty one would be infinitely far away.
    p = [(a + 0.5) / (ours + 0.5 * len(together)) for a, _ in together]
    q = [(b + 0.5) / (ours + 0.5 * len(together)) for _, b in together]
    noise = 1 / ours + 1 / theirs
    freedom = len(together) - 1
    index = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)) - freedom * noise
    by_p = [math.log(a / b) + 1 - b / a for a, b in zip(p, q, strict=True)]
    by_q = [math.log(b / a) + 1 - a / b for a, b in zip(p, q, strict=True)]
    variance = _variance(p, by_p) / ours + _variance(q, by_q) / theirs + 2 * freedom * noise**2
    return index, math.sqrt(variance)


def shift_body(known: Shift) -> dict[str, Any]:
    """Return what status shows and remembers."""
    index, deviation = distance(known)
    names = sorted({*known.canary, *known.stable})
    return {
        "value": round(index, 4),
        "deviation": round(deviation, 4),
        "answers": {"canary": round(known.answers), "stable": round(known.of_stable)},
        "state": {
            "bins": {name: [known.canary.get(name, 0), known.stable.get(name, 0.0)] for name in names},
            "spread": known.spread,
            "looks": known.looks,
            "lookedAt": known.looked_at,
        },
    }


def shift_of(entry: Body) -> Shift:
    """Read back what `shift_body` wrote."""
    state = entry["state"]
    return Shift(
        canary={name: pair[0] for name, pair in state["bins"].items() if pair[0]},
        stable={name: float(pair[1]) for name, pair in state["bins"].items() if pair[1]},
        spread=float(state["spread"]),
        looks=state["looks"],
        looked_at=float(state["lookedAt"]),
        outcome=Outcome(entry["verdict"]),
    )


def tell_shift(metric: Metric, known: Shift) -> str:
    """Return the numbers that decide, in one line."""
    if not known.answers:
        return f"{metric.name}: no answers of both revisions yet"
    index, deviation = distance(known)
    line = (
        f"{metric.name}: PSI {index:.3f} +- {deviation:.3f} of {known.answers:.0f} answers"
        f" against {known.of_stable:.0f} of stable, {limit_of(metric):g} allowed"
    )
    if known.outcome is not Outcome.UNDECIDED:
        return line
    return f"{line}, looks again at {math.ceil(known.next_look)} of each"


def _look(known: Shift, limit: float, alpha: float, looks: int) -> Outcome:
    index, deviation = distance(known)
    reach = NormalDist().inv_cdf(1 - alpha / (looks * (looks + 1))) * deviation
    if index - reach > limit:
        return Outcome.FAIL
    return Outcome.PASS if index + reach < limit else Outcome.UNDECIDED


def _common_bins(known: Shift) -> list[tuple[float, float]]:
    """Return (canary, stable) of each bin, the rare ones as one."""
    pairs = [(known.canary.get(name, 0.0), known.stable.get(name, 0.0)) for name in {*known.canary, *known.stable}]
    least = RAREST * 2 * known.answers
    common = sorted(pair for pair in pairs if sum(pair) >= least)
    rare = [pair for pair in pairs if sum(pair) < least]
    return [*common, (sum(a for a, _ in rare), sum(b for _, b in rare))] if rare else common


def _variance(shares: list[float], slopes: list[float]) -> float:
    """Return the variance of a slope at one multinomial draw."""
    mean = sum(share * slope for share, slope in zip(shares, slopes, strict=True))
    return sum(share * slope**2 for share, slope in zip(shares, slopes, strict=True)) - mean**2


def _sum(one: Bins, other: Bins) -> Bins:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
