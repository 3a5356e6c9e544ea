"""The test of `prediction-shift`: how far the distribution of the canary's answers is from stable's.

The population stability index of two histograms p (canary) and q (stable) over the same bins is

    PSI = sum (p_k - q_k) ln(p_k / q_k)

It is never negative, so that noise alone makes a distance: with n_c and n_s answers in K bins, about
(K - 1)(1/n_c + 1/n_s) of it, which is taken off. Its deviation is the delta method's plus that noise's own.

Stable's histogram is that of the same wall-clock intervals: each interval of stable counts as much as the canary's
does, so that a change of the inputs while the weight grows is no shift. Answers in bins with fewer than `RARE_SHARE` of
the whole are taken together: a bin that hardly occurs has no share worth comparing.

FAIL when the index is surely above the metric's `maximum`, PASS when it is surely below. Looks are taken when
the answers have grown by half since the last one, and look j may err with probability alpha / (j (j + 1)), alpha in
all.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from model_operator.api.values import replace
from model_operator.observation.values import MetricState, Outcome
from model_operator.policy.analysis.metric_test import CountedTest, Counters

Body = Mapping[str, Any]
Bins = Mapping[str, float]

#: Minimum number of answers of each revision for the first look.
MIN_SAMPLES = 200
GROWTH = 1.5
RARE_SHARE = 0.01
#: Default bound of the PSI: by common practice, a larger one is a shift.
DEFAULT_MAXIMUM = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCounts:
    """Answers of both revisions in one interval, by class or bucket."""

    canary: Bins = field(default_factory=dict)
    stable: Bins = field(default_factory=dict)

    def __add__(self, other: "OutputCounts") -> "OutputCounts":
        return OutputCounts(canary=_sum(self.canary, other.canary), stable=_sum(self.stable, other.stable))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftState(MetricState):
    """Two histograms and the number of interim analyses (looks).

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
        """Effective number of answers of stable: those in one interval with the information of all intervals."""
        return self.answers**2 / self.spread if self.spread else 0.0

    @property
    def size(self) -> float:
        """Number of answers of the revision that has fewer of them."""
        return min(self.answers, self.of_stable)

    @property
    def next_look(self) -> float:
        """The size from which the next look is taken."""
        return max(MIN_SAMPLES, GROWTH * self.looked_at)

    def plus(self, counts: OutputCounts) -> "ShiftState":
        """Return the state with one more interval; an interval without answers of both is ignored."""
        ours, theirs = sum(counts.canary.values()), sum(counts.stable.values())
        if not ours or not theirs:
            return self
        return replace(
            self,
            canary=_sum(self.canary, counts.canary),
            stable=_sum(self.stable, {name: count * ours / theirs for name, count in counts.stable.items()}),
            spread=self.spread + ours**2 / theirs,
        )


class ShiftTest(CountedTest[ShiftState, OutputCounts]):
    """The population stability index (PSI) of the answers of both revisions, compared with a bound."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        return True

    def start(self) -> ShiftState:
        return ShiftState()

    def count(self, state: ShiftState, before: Counters, after: Counters, *, is_canary: bool) -> OutputCounts:
        grown = {name: count - before.outputs.get(name, 0) for name, count in after.outputs.items()}
        bins = {name: count for name, count in grown.items() if count > 0}
        return OutputCounts(canary=bins) if is_canary else OutputCounts(stable=bins)

    def update(self, state: ShiftState, counts: OutputCounts) -> ShiftState:
        updated = state.plus(counts)
        if updated is state or updated.size < updated.next_look:
            return updated
        looks = updated.looks + 1
        return replace(updated, looks=looks, looked_at=updated.size, outcome=self._look(updated, looks))

    def verdict(self, state: ShiftState) -> Outcome:
        return state.outcome

    @property
    def maximum(self) -> float:
        """The largest PSI that is allowed."""
        return DEFAULT_MAXIMUM if self.metric.maximum is None else self.metric.maximum

    def message(self, state: ShiftState) -> str:
        if not state.answers:
            return f"{self.metric.name}: no answers of both revisions yet"
        index, deviation = distance(state)
        line = (
            f"{self.metric.name}: PSI {index:.3f} +- {deviation:.3f} of {state.answers:.0f} answers"
            f" against {state.of_stable:.0f} of stable, {self.maximum:g} allowed"
        )
        if state.outcome is not Outcome.UNDECIDED:
            return line
        return f"{line}, next look at {math.ceil(state.next_look)} of each"

    def to_status(self, state: ShiftState) -> dict[str, Any]:
        index, deviation = distance(state)
        names = sorted({*state.canary, *state.stable})
        entry = {
            "value": round(index, 4),
            "deviation": round(deviation, 4),
            "max": self.maximum,
            "answers": {"canary": round(state.answers), "stable": round(state.of_stable)},
            "state": {
                "bins": {name: [state.canary.get(name, 0), state.stable.get(name, 0.0)] for name in names},
                "spread": state.spread,
                "looks": state.looks,
                "lookedAt": state.looked_at,
            },
        }
        if state.outcome is Outcome.UNDECIDED:
            entry["needAnswers"] = max(math.ceil(state.next_look - state.size), 1)
        return entry

    def from_status(self, entry: Body) -> ShiftState:
        state = entry["state"]
        return ShiftState(
            canary={name: pair[0] for name, pair in state["bins"].items() if pair[0]},
            stable={name: float(pair[1]) for name, pair in state["bins"].items() if pair[1]},
            spread=float(state["spread"]),
            looks=state["looks"],
            looked_at=float(state["lookedAt"]),
            outcome=Outcome(entry["verdict"]),
        )

    def _look(self, state: ShiftState, looks: int) -> Outcome:
        index, deviation = distance(state)
        reach = NormalDist().inv_cdf(1 - 1 / self.fail_at / (looks * (looks + 1))) * deviation
        if index - reach > self.maximum:
            return Outcome.FAIL
        return Outcome.PASS if index + reach < self.maximum else Outcome.UNDECIDED


def distance(state: ShiftState) -> tuple[float, float]:
    """Return the PSI without its bias from noise, and its standard deviation."""
    ours, theirs, together = state.answers, state.of_stable, _common_bins(state)
    if not ours or not theirs or len(together) < 2:
        return 0.0, 0.0
    # Half an answer more in each bin: an empty bin would have an infinite distance.
    p = [(a + 0.5) / (ours + 0.5 * len(together)) for a, _ in together]
    q = [(b + 0.5) / (ours + 0.5 * len(together)) for _, b in together]
    noise = 1 / ours + 1 / theirs
    freedom = len(together) - 1
    index = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)) - freedom * noise
    by_p = [math.log(a / b) + 1 - b / a for a, b in zip(p, q, strict=True)]
    by_q = [math.log(b / a) + 1 - a / b for a, b in zip(p, q, strict=True)]
    variance = _variance(p, by_p) / ours + _variance(q, by_q) / theirs + 2 * freedom * noise**2
    return index, math.sqrt(variance)


def _common_bins(state: ShiftState) -> list[tuple[float, float]]:
    """Return (canary, stable) of each bin, with the rare bins merged."""
    pairs = [(state.canary.get(name, 0.0), state.stable.get(name, 0.0)) for name in {*state.canary, *state.stable}]
    least = RARE_SHARE * 2 * state.answers
    common = sorted(pair for pair in pairs if sum(pair) >= least)
    rare = [pair for pair in pairs if sum(pair) < least]
    return [*common, (sum(a for a, _ in rare), sum(b for _, b in rare))] if rare else common


def _variance(shares: list[float], slopes: list[float]) -> float:
    """Return the variance of a slope at one multinomial draw."""
    mean = sum(share * slope for share, slope in zip(shares, slopes, strict=True))
    return sum(share * slope**2 for share, slope in zip(shares, slopes, strict=True)) - mean**2


def _sum(one: Bins, other: Bins) -> Bins:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
