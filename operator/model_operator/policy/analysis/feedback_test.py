"""The test of feedback metrics: is the canary's mean worse than that of stable?

Every labelled answer has a loss y: 1 if it is wrong and 0 if it is right (`accuracy`, `precision`, `recall`,
`f1`, `conversion`), or the log loss in nats (`log-loss`). For F1, true negatives are excluded; with j the share of
right answers among the others, F1 = 2 j / (1 + j), which increases with j.

Per closed interval i with n_c and n_s labels of canary and stable, d_i is the difference of the mean loss (canary
minus stable) and w_i = n_c n_s / (n_c + n_s) its weight, as in Mantel and Haenszel (1959): effects that both revisions
share in an interval cancel out.

FAIL tests H0 "d <= margin" by S = sum w_i (d_i - margin) with the variance V = sum w_i^2 (v_c / n_c + v_s / n_s). The
mixture of exp(h S - h^2 V / 2) over h > 0 with half a normal density of precision rho is

    E = 2 sqrt(rho / (V + rho)) exp(S^2 / (2 (V + rho))) Phi(S / sqrt(V + rho))

(Robbins, 1970; Johari, Pekelis and Walsh, 2017, "Always valid inference"; Howard et al., 2021, prop. 6). With the
variances estimated it holds asymptotically (Waudby-Smith et al., 2024), so there is no verdict on fewer than
`MIN_SAMPLES` labels of either revision. PASS is the same test of H0 "d >= margin".

A bound of the canary's own value (`minimum`, `maximum`) is tested by an exact test for binary losses, and by the same
mixture for the log loss.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import LOG_LOSS
from model_operator.api.sums import SumStats
from model_operator.observation.values import MetricState, Outcome
from model_operator.policy.analysis.metric_test import CountedTest, Counters
from model_operator.policy.analysis.rate_test import limit_e_value

Body = Mapping[str, Any]

#: Minimum number of labels of each revision for a verdict.
MIN_SAMPLES = 50
#: Weight at which the mixture is sharpest: that of 200 labels of each revision.
MIXTURE_PRECISION = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labelled answers of both revisions."""

    canary: SumStats = field(default_factory=SumStats)
    stable: SumStats = field(default_factory=SumStats)

    def __add__(self, other: "Labels") -> "Labels":
        return Labels(canary=self.canary + other.canary, stable=self.stable + other.stable)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackState(MetricState):
    """Sum w d, sum w, sum w^2/n_c and sum w^2/n_s over the intervals, and all labels."""

    difference: float = 0.0
    weight: float = 0.0
    canary_spread: float = 0.0
    stable_spread: float = 0.0
    total: Labels = field(default_factory=Labels)

    def plus(self, labels: Labels) -> "FeedbackState":
        """Return the state with one more interval; a difference needs labels of both revisions."""
        total, n, m = self.total + labels, labels.canary.count, labels.stable.count
        weight = n * m / (n + m) if n and m else 0.0
        return FeedbackState(
            difference=self.difference + weight * (labels.canary.mean - labels.stable.mean),
            weight=self.weight + weight,
            canary_spread=self.canary_spread + (weight**2 / n if weight else 0.0),
            stable_spread=self.stable_spread + (weight**2 / m if weight else 0.0),
            total=total,
        )

    def e_value(self, margin: float, *, sign: int) -> float:
        """Return E against H0 "sign * (d - margin) <= 0", d being the mean loss of the canary minus that of stable."""
        canary, stable = self.total.canary, self.total.stable
        if min(canary.count, stable.count) < MIN_SAMPLES or not self.weight:
            return 1.0
        variance = self.canary_spread * canary.variance + self.stable_spread * stable.variance
        score = sign * (self.difference - self.weight * margin)
        # In units of the mean variance per unit of weight, so that the result does not depend on the scale of the loss.
        unit = variance / self.weight
        return mixture(score / math.sqrt(unit), self.weight)


class FeedbackTest(CountedTest[FeedbackState, Labels]):
    """A mean over labelled answers, compared with that of stable or with a bound."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        return self.metric.pass_drop is not None

    def start(self) -> FeedbackState:
        return FeedbackState()

    def count(self, state: FeedbackState, before: Counters, after: Counters, *, is_canary: bool) -> Labels:
        return count_labels(self.metric.name, before, after, is_canary=is_canary)

    def update(self, state: FeedbackState, counts: Labels) -> FeedbackState:
        return state.plus(counts)

    def verdict(self, state: FeedbackState) -> Outcome:
        if self.fail_evidence(state) >= self.fail_at:
            return Outcome.FAIL
        if self.metric.pass_drop is None:
            return Outcome.UNDECIDED
        is_proven = state.e_value(self.metric.pass_drop, sign=-1) >= self.fail_at
        return Outcome.PASS if is_proven else Outcome.UNDECIDED

    def fail_evidence(self, state: FeedbackState) -> float:
        """Return E against the canary: the mean over the tests of the metric; 0 without a test."""
        tests = [state.e_value(self.metric.fail_drop, sign=1)] if self.metric.fail_drop is not None else []
        bound = self.largest_loss
        if bound is not None:
            tests.append(self._bound_e_value(state.total.canary, bound))
        return sum(tests) / len(tests) if tests else 0.0

    @property
    def largest_loss(self) -> float | None:
        """The largest mean loss that the metric's own bound allows; None without a bound."""
        metric = self.metric
        if metric.name == LOG_LOSS:
            return metric.maximum
        if metric.minimum is None or metric.name != "f1":
            return None if metric.minimum is None else 1 - metric.minimum
        return 1 - metric.minimum / (2 - metric.minimum)

    def value(self, answers: SumStats) -> float | None:
        """Return the metric by its usual definition: a share of right answers, or the mean loss; None without labels.

        F1 = 2 j / (1 + j), see the module docstring.
        """
        if not answers.count:
            return None
        if self.metric.name == LOG_LOSS:
            return answers.mean
        right = 1 - answers.mean
        return 2 * right / (1 + right) if self.metric.name == "f1" else right

    def message(self, state: FeedbackState) -> str:
        canary, stable = state.total.canary, state.total.stable
        value, other = self.value(canary), self.value(stable)
        if value is None:
            return f"{self.metric.name}: no feedback on the canary yet"
        beside = "no labels of stable" if other is None else f"stable {other:.4f} of {stable.count:.0f}"
        line = f"{self.metric.name}: canary {value:.4f} of {canary.count:.0f} labels, {beside}"
        if self._needed(state):
            return f"{line}, needs {MIN_SAMPLES} labels of each for a verdict"
        return f"{line}, E {self.fail_evidence(state):.3g} of {self.fail_at:.0f}"

    def to_status(self, state: FeedbackState) -> dict[str, Any]:
        total, missing = state.total, self._needed(state)
        values = {"value": self.value(total.canary), "stableValue": self.value(total.stable)}
        return {
            "failAt": self.fail_at,
            "evidence": round(self.fail_evidence(state), 3),
            "labels": labels_to_status(total),
            **({"needLabels": missing} if missing else {}),
            **{name: round(value, 6) for name, value in values.items() if value is not None},
            "state": feedback_to_status(state),
        }

    def from_status(self, entry: Body) -> FeedbackState:
        return feedback_from_status(entry["state"])

    def _needed(self, state: FeedbackState) -> int:
        """Return the number of labels that the revision with fewer of them lacks for a first verdict."""
        return max(math.ceil(MIN_SAMPLES - min(state.total.canary.count, state.total.stable.count)), 0)

    def _bound_e_value(self, answers: SumStats, bound: float) -> float:
        if self.metric.name != LOG_LOSS:
            return limit_e_value(round(answers.count), round(answers.total), bound)
        if answers.count < MIN_SAMPLES:
            return 1.0
        return mixture((answers.total - answers.count * bound) / math.sqrt(answers.variance), answers.count)


def count_labels(metric: str, before: Counters, after: Counters, *, is_canary: bool) -> Labels:
    """Return the labelled answers of one server between two samples."""
    grown = after.quality.get(metric, SumStats()) - before.quality.get(metric, SumStats())
    return Labels(canary=grown) if is_canary else Labels(stable=grown)


def labels_to_status(labels: Labels) -> dict[str, int]:
    """Return the numbers of labels of both revisions."""
    return {"canary": int(labels.canary.count), "stable": int(labels.stable.count)}


def feedback_to_status(state: FeedbackState) -> dict[str, Any]:
    """Return the state as JSON, from which `feedback_from_status` restores it exactly."""
    sides = (state.total.canary, state.total.stable)
    return {
        "sums": [state.difference, state.weight, state.canary_spread, state.stable_spread],
        "answers": [[side.count, side.total, side.squares] for side in sides],
    }


def feedback_from_status(raw: Body) -> FeedbackState:
    """Restore the state that `feedback_to_status` wrote."""
    difference, weight, canary_spread, stable_spread = map(float, raw["sums"])
    canary, stable = (
        SumStats(count=count, total=float(total), squares=float(squares)) for count, total, squares in raw["answers"]
    )
    return FeedbackState(
        difference=difference,
        weight=weight,
        canary_spread=canary_spread,
        stable_spread=stable_spread,
        total=Labels(canary=canary, stable=stable),
    )


def mixture(score: float, variance: float) -> float:
    """Return the one-sided normal mixture E of a sum with this variance, in units of `MIXTURE_PRECISION`."""
    spread = variance + MIXTURE_PRECISION
    normal = 0.5 * math.erfc(-score / math.sqrt(2 * spread))
    return 2 * math.sqrt(MIXTURE_PRECISION / spread) * math.exp(min(score**2 / (2 * spread), 700.0)) * normal
