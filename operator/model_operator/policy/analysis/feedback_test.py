"""The judge of quality by feedback: is the canary's mean worse than stable's? Pure; `analysis` calls it.

Every labelled answer has a badness y: 1 when it is wrong and 0 when it is right (`accuracy`, `precision`, `recall`,
`f1`, `conversion`), or its loss in nats (`log-loss`). Of F1's answers, those that are no true negative, the share j
is right and F1 = 2 j / (1 + j): one falls when the other does.

Per closed interval i with n_c and n_s labels of canary and stable, d_i is the difference of the mean badness (canary
minus stable) and w_i = n_c n_s / (n_c + n_s) its weight, as Mantel and Haenszel's: what both revisions share in an
interval cancels out.

FAIL tests H0 "d <= margin" by S = sum w_i (d_i - margin) with the variance V = sum w_i^2 (v_c / n_c + v_s / n_s). The
mixture of exp(h S - h^2 V / 2) over h > 0 with half a normal density of precision rho is

    E = 2 sqrt(rho / (V + rho)) exp(S^2 / (2 (V + rho))) Phi(S / sqrt(V + rho))

(Robbins, 1970; Johari, Pekelis and Walsh, 2017, "Always valid inference"; Howard et al., 2021, prop. 6). With the
variances estimated it holds asymptotically (Waudby-Smith et al., 2024), so nothing is decided on fewer than `FEWEST`
labels of either revision. PASS is the same test of H0 "d >= margin".

A bound of the canary's own value (`minimum`, `maximum`) is tested exactly where answers are right or wrong, and by the
same mixture where they have a loss.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import LOG_LOSS, Metric
from model_operator.api.json import Body
from model_operator.api.sums import SumStats
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.rate_test import limit_e_value

#: Labels of each revision below which nothing is decided.
FEWEST = 50
#: Weight at which the mixture is sharpest: that of 200 labels of each revision.
_SHARPEST = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labelled answers of both revisions."""

    canary: SumStats = field(default_factory=SumStats)
    stable: SumStats = field(default_factory=SumStats)

    def __add__(self, other: "Labels") -> "Labels":
        return Labels(canary=self.canary + other.canary, stable=self.stable + other.stable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What is known so far: sum w d, sum w, sum w^2/n_c and sum w^2/n_s over the intervals, and all labels."""

    difference: float = 0.0
    weight: float = 0.0
    canary_spread: float = 0.0
    stable_spread: float = 0.0
    total: Labels = field(default_factory=Labels)


def learn(known: Quality, labels: Labels) -> Quality:
    """Return what is known with one more interval; one without labels of both says nothing of their difference."""
    total, n, m = known.total + labels, labels.canary.count, labels.stable.count
    weight = n * m / (n + m) if n and m else 0.0
    return Quality(
        difference=known.difference + weight * (labels.canary.mean - labels.stable.mean),
        weight=known.weight + weight,
        canary_spread=known.canary_spread + (weight**2 / n if weight else 0.0),
        stable_spread=known.stable_spread + (weight**2 / m if weight else 0.0),
        total=total,
    )


def judge(metric: Metric, known: Quality, decides_at: float) -> Outcome:
    """Return the verdict; `decides_at` is 1/alpha of this metric's share of alpha."""
    if fail_evidence(metric, known) >= decides_at:
        return Outcome.FAIL
    if metric.pass_drop is None:
        return Outcome.UNDECIDED
    return Outcome.PASS if difference_e_value(known, metric.pass_drop, sign=-1) >= decides_at else Outcome.UNDECIDED


def fail_evidence(metric: Metric, known: Quality) -> float:
    """Return E against the canary: the mean over the tests that the metric has; 0 without one."""
    tests = [difference_e_value(known, metric.fail_drop, sign=1)] if metric.fail_drop is not None else []
    bound = worst_badness(metric)
    if bound is not None:
        tests.append(_bound_e_value(metric, known.total.canary, bound))
    return sum(tests) / len(tests) if tests else 0.0


def worst_badness(metric: Metric) -> float | None:
    """Return the largest mean badness that the metric's own bound allows; None without a bound."""
    if metric.name == LOG_LOSS:
        return metric.maximum
    if metric.minimum is None or metric.name != "f1":
        return None if metric.minimum is None else 1 - metric.minimum
    return 1 - metric.minimum / (2 - metric.minimum)


def value_of(metric: Metric, answers: SumStats) -> float | None:
    """Return the metric as people know it: the share of right answers, or the mean loss; None without labels."""
    if not answers.count:
        return None
    if metric.name == LOG_LOSS:
        return answers.mean
    right = 1 - answers.mean
    return 2 * right / (1 + right) if metric.name == "f1" else right


def quality_body(metric: Metric, known: Quality, decides_at: float) -> dict[str, Any]:
    """Return what status shows and remembers."""
    total = known.total
    values = {"value": value_of(metric, total.canary), "stableValue": value_of(metric, total.stable)}
    return {
        "failAt": decides_at,
        "evidence": round(fail_evidence(metric, known), 3),
        "labels": {"canary": int(total.canary.count), "stable": int(total.stable.count)},
        **{name: round(value, 6) for name, value in values.items() if value is not None},
        "state": state_body(known),
    }


def state_body(known: Quality) -> dict[str, Any]:
    """Return what `quality_of` reads back from the entry's `state`."""
    sides = (known.total.canary, known.total.stable)
    return {
        "sums": [known.difference, known.weight, known.canary_spread, known.stable_spread],
        "answers": [[side.count, side.total, side.squares] for side in sides],
    }


def quality_of(entry: Body) -> Quality:
    """Read back what `state_body` wrote into an entry."""
    difference, weight, canary_spread, stable_spread = map(float, entry["state"]["sums"])
    canary, stable = (
        SumStats(count=count, total=float(total), squares=float(squares))
        for count, total, squares in entry["state"]["answers"]
    )
    return Quality(
        difference=difference,
        weight=weight,
        canary_spread=canary_spread,
        stable_spread=stable_spread,
        total=Labels(canary=canary, stable=stable),
    )


def tell_quality(metric: Metric, known: Quality, decides_at: float) -> str:
    """Return the numbers that decide, in one line."""
    canary, stable = known.total.canary, known.total.stable
    value, other = value_of(metric, canary), value_of(metric, stable)
    if value is None:
        return f"{metric.name}: no feedback on the canary yet"
    beside = "no labels of stable" if other is None else f"stable {other:.4f} of {stable.count:.0f}"
    line = f"{metric.name}: canary {value:.4f} of {canary.count:.0f} labels, {beside}"
    if canary.count < FEWEST or stable.count < FEWEST:
        return f"{line}, judged from {FEWEST} labels of each"
    return f"{line}, E {fail_evidence(metric, known):.3g} of {decides_at:.0f}"


def difference_e_value(known: Quality, margin: float, *, sign: int) -> float:
    """Return E against H0 "sign * (d - margin) <= 0", d the canary's mean badness above stable's."""
    canary, stable = known.total.canary, known.total.stable
    if min(canary.count, stable.count) < FEWEST or not known.weight:
        return 1.0
    variance = known.canary_spread * canary.variance + known.stable_spread * stable.variance
    score = sign * (known.difference - known.weight * margin)
    # In units of the mean variance of one unit of weight, so that the scale of a loss does not matter.
    unit = variance / known.weight
    return mixture(score / math.sqrt(unit), known.weight)


def _bound_e_value(metric: Metric, answers: SumStats, bound: float) -> float:
    if metric.name != LOG_LOSS:
        return limit_e_value(round(answers.count), round(answers.total), bound)
    if answers.count < FEWEST:
        return 1.0
    return mixture((answers.total - answers.count * bound) / math.sqrt(answers.variance), answers.count)


def mixture(score: float, variance: float) -> float:
    """Return the one-sided normal mixture E of a sum with this variance, in units of `_SHARPEST`."""
    spread = variance + _SHARPEST
    normal = 0.5 * math.erfc(-score / math.sqrt(2 * spread))
    return 2 * math.sqrt(_SHARPEST / spread) * math.exp(min(score**2 / (2 * spread), 700.0)) * normal
