"""The canary judge: anytime-valid tests on counts, so that it may be looked at as often as one likes.

Per closed interval it is told requests n and bad ones x of canary (c) and stable (s).

FAIL tests H0 "the canary's bad rate is at most r times stable's". Given m = x_c + x_s bad requests
in an interval, x_c ~ Binomial(m, pi) with pi = r n_c / (r n_c + n_s) at the edge of H0. For phi in
`RATIOS` the likelihood ratio against pi_phi = phi r n_c / (phi r n_c + n_s) is multiplied up over
the intervals; E is the mean over phi. E is a nonnegative supermartingale under H0, so by Ville's
inequality (Ville, 1939; Ramdas et al., 2023, "Game-theoretic statistics and safe anytime-valid
inference") the chance that it ever reaches 1/alpha is at most alpha, at any number of looks and for
any error pattern that both revisions share.

PASS is the same test with the roles turned (H0: ratio >= the metric's `pass_ratio`), or a likelihood
ratio against an absolute bad rate (`pass_rate`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_operator.api.analysis import Metric
from model_operator.policy.observed import Outcome

RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0)
SHRINKS = (2.0, 5.0, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests and bad ones among them, of both revisions, in one closed interval."""

    canary: int = 0
    canary_bad: int = 0
    stable: int = 0
    stable_bad: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            canary=self.canary + other.canary,
            canary_bad=self.canary_bad + other.canary_bad,
            stable=self.stable + other.stable,
            stable_bad=self.stable_bad + other.stable_bad,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known so far of one metric: log likelihood ratios (natural) and totals. Starts at nothing."""

    fail: Sequence[float] = (0.0,) * len(RATIOS)
    pass_ratio: Sequence[float] = (0.0,) * len(RATIOS)
    pass_rate: Sequence[float] = (0.0,) * len(SHRINKS)
    total: Counts = field(default_factory=Counts)


def learn(metric: Metric, evidence: Evidence, counts: Counts) -> Evidence:
    """Return the evidence with one more interval. An interval without requests of both teaches nothing of ratios."""
    fail, ratio, rate = evidence.fail, evidence.pass_ratio, evidence.pass_rate
    if counts.canary and counts.stable:
        if metric.fail_ratio is not None:
            fail = _add(fail, [_ratio_step(counts, metric.fail_ratio, phi) for phi in RATIOS])
        if metric.pass_ratio is not None:
            ratio = _add(ratio, [_ratio_step(counts, metric.pass_ratio, 1 / phi) for phi in RATIOS])
    if metric.pass_rate is not None:
        rate = _add(rate, [_rate_step(counts, metric.pass_rate, shrink) for shrink in SHRINKS])
    return Evidence(fail=fail, pass_ratio=ratio, pass_rate=rate, total=evidence.total + counts)


def judge(metric: Metric, evidence: Evidence, decides_at: float) -> Outcome:
    """Return the verdict on one metric; `decides_at` is 1/alpha of this metric's share of alpha."""
    if metric.fail_ratio is not None and e_value(evidence.fail) >= decides_at:
        return Outcome.FAIL
    passed = (
        metric.pass_ratio is not None and e_value(evidence.pass_ratio) >= decides_at,
        metric.pass_rate is not None and e_value(evidence.pass_rate) >= decides_at,
    )
    return Outcome.PASS if any(passed) else Outcome.UNDECIDED


def needed(metric: Metric, evidence: Evidence, decides_at: float) -> int | None:
    """Return about how many further requests without a bad one the canary needs; None when only a ratio can pass."""
    if metric.pass_rate is None:
        return None
    gain = -math.log1p(-metric.pass_rate) + math.log1p(-metric.pass_rate / SHRINKS[-1])
    return max(1, math.ceil((math.log(len(SHRINKS) * decides_at) - max(evidence.pass_rate)) / gain))


def e_value(logs: Sequence[float]) -> float:
    """Return the mean of exp over log likelihood ratios, without overflow."""
    top = max(logs)
    mean = sum(math.exp(value - top) for value in logs) / len(logs)
    return math.exp(min(top + math.log(mean), 700.0))


def _ratio_step(counts: Counts, margin: float, phi: float) -> float:
    """Return the log likelihood ratio of one interval for ratio phi * margin against margin."""
    null = margin * counts.canary / (margin * counts.canary + counts.stable)
    other = phi * margin * counts.canary / (phi * margin * counts.canary + counts.stable)
    return counts.canary_bad * math.log(other / null) + counts.stable_bad * math.log((1 - other) / (1 - null))


def _rate_step(counts: Counts, rate: float, shrink: float) -> float:
    """Return the log likelihood ratio of one interval for a bad rate of rate / shrink against rate."""
    good = counts.canary - counts.canary_bad
    # At a rate of 1 every good answer contradicts the null altogether.
    gain = math.log1p(-rate / shrink) - math.log1p(-min(rate, 1 - 1e-9))
    return -counts.canary_bad * math.log(shrink) + good * gain


def _add(old: Sequence[float], new: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(old, new, strict=True))
