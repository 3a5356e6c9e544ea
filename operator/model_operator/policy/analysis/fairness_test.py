"""The tests of quality by group (`spec.monitoring.slices`): is the canary worse for somebody?

`group-accuracy` compares the accuracy of the canary in each group with that of stable in the same group, by the test
of `feedback_test`. The i-th group that is met has the weight 1 / (i (i + 1)) in E; what is left of 1 belongs to groups
that were not met, whose E is 1. A mean of E-values with weights fixed beforehand is an E-value under any dependence
(Vovk and Wang, 2021, "E-values: Calibration, combination and applications").

The differences bound the largest difference between two groups of the canary's own rates: of positive predictions, of
true positives, or of true and of false positives. A group's answers, of which k of n are successes, have under the
rate p the likelihood ratio

    L(p) = Beta(k + 1/2, n - k + 1/2) / Beta(1/2, 1/2) / (p^k (1 - p)^(n - k)),

a test martingale if p is the group's rate (Robbins, 1970; the mixture is that of Krichevsky and Trofimov, 1981). The
product over the groups at their true rates is one too, and E is its smallest value over all rates that H0 allows: a
canary within its bound has E of `fail_at` or more with a probability of at most 1 / `fail_at`, at however many looks,
and for any number of answers. FAIL tests H0 "no two rates differ by more than the bound". PASS tests, for each two
groups, H0 "they differ by the bound or more", and its E is the smallest of these.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import EQUAL_OPPORTUNITY, GROUP_ACCURACY, SELECTION_RATE
from model_operator.api.sums import SliceCounts, SumStats
from model_operator.observation.values import MetricState, Outcome
from model_operator.policy.analysis.feedback_test import (
    MIN_SAMPLES,
    FeedbackState,
    Labels,
    feedback_from_status,
    feedback_to_status,
)
from model_operator.policy.analysis.metric_test import CountedTest, Counters

Body = Mapping[str, Any]
#: Successes and number of answers of one group.
Share = tuple[float, float]

#: More groups than these are not judged: a server has 32 and `other` at most.
MOST_GROUPS = 33
#: Groups of which the status shows values.
_MOST_SHOWN = 16
_STEPS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """Counts of one interval by group: of both revisions."""

    canary: Mapping[str, SliceCounts] = field(default_factory=dict)
    stable: Mapping[str, SliceCounts] = field(default_factory=dict)

    def __add__(self, other: "GroupCounts") -> "GroupCounts":
        return GroupCounts(canary=_sum(self.canary, other.canary), stable=_sum(self.stable, other.stable))


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessState(MetricState):
    """All counts of the canary by group, and the comparison with stable by group, in the order that they were met."""

    canary: Mapping[str, SliceCounts] = field(default_factory=dict)
    compared: Mapping[str, FeedbackState] = field(default_factory=dict)


class FairnessTest(CountedTest[FairnessState, GroupCounts]):
    """Quality by the groups of one slice, compared with that of stable or with a bound."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        return self.metric.name != GROUP_ACCURACY

    def start(self) -> FairnessState:
        return FairnessState()

    def count(self, state: FairnessState, before: Counters, after: Counters, *, is_canary: bool) -> GroupCounts | None:
        slices = {name for name, _ in after.slices}
        name = self.metric.slice or (next(iter(slices)) if len(slices) == 1 else "")
        grown = {
            group: counts.since(before.slices.get((part, group), SliceCounts()))
            for (part, group), counts in after.slices.items()
            if part == name
        }
        grown = {group: counts for group, counts in grown.items() if counts != SliceCounts()}
        return GroupCounts(canary=grown) if is_canary else GroupCounts(stable=grown)

    def update(self, state: FairnessState, counts: GroupCounts) -> FairnessState:
        compared = dict(state.compared)
        if self.metric.name == GROUP_ACCURACY:
            for group in sorted({*counts.canary, *counts.stable}):
                if group in compared or len(compared) < MOST_GROUPS:
                    labels = Labels(canary=_losses(counts.canary, group), stable=_losses(counts.stable, group))
                    compared[group] = compared.get(group, FeedbackState()).plus(labels)
        known = {g: c for g, c in counts.canary.items() if g in state.canary or len(state.canary) < MOST_GROUPS}
        return FairnessState(canary=_sum(state.canary, known), compared=compared)

    def verdict(self, state: FairnessState) -> Outcome:
        if self.fail_evidence(state) >= self.fail_at:
            return Outcome.FAIL
        is_proven = self.can_pass and self.pass_evidence(state) >= self.fail_at
        return Outcome.PASS if is_proven else Outcome.UNDECIDED

    def fail_evidence(self, state: FairnessState) -> float:
        """Return E against the canary."""
        if self.metric.name == GROUP_ACCURACY:
            return self._accuracy_evidence(state)
        rates = self._rates(state)
        return sum(excess(list(rate.values()), self._bound) for rate in rates) / len(rates)

    def pass_evidence(self, state: FairnessState) -> float:
        """Return E for the canary: that no two groups differ by the bound or more."""
        rates = self._rates(state)
        if not all(len(rate) > 1 for rate in rates):
            return 1.0
        pairs = [pair for rate in rates for pair in itertools.permutations(rate.values(), 2)]
        return min(closeness(first, second, self._bound) for first, second in pairs)

    def message(self, state: FairnessState) -> str:
        name, slice_name = self.metric.name, self.metric.slice or "its slice"
        groups = self._values(state)
        if len(groups) < 2:
            return (
                f"{name}: no two groups of {slice_name} have answers yet; a slice is an input feature, or a key of"
                " groups in the feedback"
            )
        worst = self._worst(state)
        shown = ", ".join(f"{group} {value:.4f} of {count:.0f}" for group, (value, count) in worst.items())
        line = f"{name}: {shown}, E {self.fail_evidence(state):.3g} of {self.fail_at:.0f}"
        group, more = self._needed(state)
        return f"{line}, needs about {more} more labels of {group}" if more else line

    def to_status(self, state: FairnessState) -> dict[str, Any]:
        values = self._values(state)
        group, more = self._needed(state)
        entry: dict[str, Any] = {
            "failAt": self.fail_at,
            "evidence": round(min(self.fail_evidence(state), 1e12), 3),
            "groups": {
                name: {"value": round(value, 6), "answers": int(count), **self._stable(state, name)}
                for name, (value, count) in sorted(values.items(), key=lambda one: one[1][0])[:_MOST_SHOWN]
            },
            "state": {
                "canary": {name: counts.to_list() for name, counts in state.canary.items()},
                # A list: the order has the weights, and API servers sort the keys of maps.
                "compared": [[name, feedback_to_status(one)] for name, one in state.compared.items()],
            },
        }
        if (value := self.value(state)) is not None:
            entry["value"] = round(value, 6)
        return entry | ({"needLabels": more, "needGroup": group} if more else {})

    def from_status(self, entry: Body) -> FairnessState:
        raw = entry["state"]
        return FairnessState(
            canary={name: SliceCounts.from_list(counts) for name, counts in raw["canary"].items()},
            compared={name: feedback_from_status(one) for name, one in raw["compared"]},
        )

    def value(self, state: FairnessState) -> float | None:
        """Return the largest difference, or the lowest accuracy of a group; None before two groups have answers."""
        if self.metric.name == GROUP_ACCURACY:
            return min((value for value, _ in self._values(state).values()), default=None)
        rates = [[k / n for k, n in rate.values()] for rate in self._rates(state) if len(rate) > 1]
        return max((max(rate) - min(rate) for rate in rates), default=None)

    @property
    def _bound(self) -> float:
        return self.metric.maximum or 0.0

    def _accuracy_evidence(self, state: FairnessState) -> float:
        evidence, left = 0.0, 1.0
        for place, one in enumerate(state.compared.values(), 1):
            weight = 1 / (place * (place + 1))
            evidence += weight * one.e_value(self.metric.fail_drop or 0.0, sign=1)
            left -= weight
        return evidence + left

    def _rates(self, state: FairnessState) -> list[dict[str, Share]]:
        """Return the rates that the metric compares, by group; groups without an answer are not in them."""
        if self.metric.name == SELECTION_RATE:
            shares = [{group: counts.selected for group, counts in state.canary.items()}]
        else:
            shares = [{group: counts.true_positives for group, counts in state.canary.items()}]
            if self.metric.name != EQUAL_OPPORTUNITY:
                shares.append({group: counts.false_positives for group, counts in state.canary.items()})
        return [{group: share for group, share in rate.items() if share[1]} for rate in shares]

    def _widest(self, state: FairnessState) -> dict[str, Share]:
        """Return the rate with the largest difference between two groups."""
        return max(self._rates(state), key=_difference)

    def _values(self, state: FairnessState) -> dict[str, Share]:
        """Return the value and the number of answers of each group."""
        if self.metric.name == GROUP_ACCURACY:
            sides = ((group, one.total.canary) for group, one in state.compared.items())
            return {group: (1 - side.mean, side.count) for group, side in sides if side.count}
        return {group: (k / n, n) for group, (k, n) in self._widest(state).items()}

    def _stable(self, state: FairnessState, group: str) -> dict[str, Any]:
        """Return the accuracy of stable in a group, as fields of the status; nothing for what the canary has alone."""
        side = state.compared[group].total.stable if self.metric.name == GROUP_ACCURACY else SumStats()
        return {"stableValue": round(1 - side.mean, 6), "stableAnswers": int(side.count)} if side.count else {}

    def _worst(self, state: FairnessState) -> dict[str, Share]:
        """Return the group with the lowest value and the one with the highest."""
        ordered = sorted(self._values(state).items(), key=lambda one: one[1][0])
        return dict([ordered[0], ordered[-1]])

    def _needed(self, state: FairnessState) -> tuple[str, int]:
        """Return the group that has too few answers for a verdict, and about how many it lacks; 0 if none does."""
        values = self._values(state)
        if len(values) < 2 or self.verdict(state) is not Outcome.UNDECIDED:
            return "", 0
        if self.metric.name == GROUP_ACCURACY:
            counts = {g: min(one.total.canary.count, one.total.stable.count) for g, one in state.compared.items()}
            group = min(counts, key=lambda one: counts[one])
            return group, max(math.ceil(MIN_SAMPLES - counts[group]), 0)
        worst = self._worst(state)
        low, high = (value for value, _ in worst.values())
        gap = max(abs(high - low - self._bound), 0.01)
        spread = sum(max(value * (1 - value), 0.05) for value, _ in worst.values())
        group = min(worst, key=lambda one: worst[one][1])
        return group, max(math.ceil(2 * math.log(100 * self.fail_at) * spread / gap**2 - worst[group][1]), 0)


def excess(shares: list[Share], bound: float) -> float:
    """Return E against H0 "no two rates differ by more than `bound`"."""
    mixed = sum(_log_mixture(share) for share in shares)

    def likelihood(low: float) -> float:
        return sum(_log_likelihood(share, min(max(share[0] / share[1], low), low + bound)) for share in shares)

    return _exp(mixed - _maximum(likelihood, 0.0, 1 - bound))


def closeness(first: Share, second: Share, bound: float) -> float:
    """Return E against H0 "the first rate is above the second by `bound` or more"."""
    mixed = _log_mixture(first) + _log_mixture(second)
    p, q = first[0] / first[1], second[0] / second[1]
    if p - q >= bound:
        return _exp(mixed - _log_likelihood(first, p) - _log_likelihood(second, q))

    def likelihood(low: float) -> float:
        return _log_likelihood(first, low + bound) + _log_likelihood(second, low)

    return _exp(mixed - _maximum(likelihood, 0.0, 1 - bound))


def _maximum(function: Any, low: float, high: float) -> float:
    """Return the largest value of a concave function, by ternary search."""
    for _ in range(_STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if function(left) < function(right):
            low = left
        else:
            high = right
    return float(function((low + high) / 2))


def _log_mixture(share: Share) -> float:
    k, n = share
    return math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - 2 * math.lgamma(0.5)


def _log_likelihood(share: Share, p: float) -> float:
    k, n = share
    # Never -inf: two infinite values could not be compared in the search.
    p = min(max(p, 1e-12), 1 - 1e-12)
    return k * math.log(p) + (n - k) * math.log1p(-p)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _difference(rate: Mapping[str, Share]) -> float:
    values = [k / n for k, n in rate.values()]
    return max(values) - min(values) if len(values) > 1 else -1.0


def _losses(groups: Mapping[str, SliceCounts], group: str) -> SumStats:
    counts = groups.get(group, SliceCounts())
    return SumStats(count=counts.answers, total=counts.wrong, squares=counts.wrong)


def _sum(first: Mapping[str, SliceCounts], second: Mapping[str, SliceCounts]) -> dict[str, SliceCounts]:
    return {group: first.get(group, SliceCounts()) + second.get(group, SliceCounts()) for group in [*first, *second]}
