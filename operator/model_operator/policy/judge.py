"""The canary judge: anytime-valid tests on counts, so that it may be looked at as often as one likes.

Per closed interval it is told requests n and bad ones x of canary (c) and stable (s).

FAIL tests H0 "the canary's bad rate is at most r times stable's". Given m = x_c + x_s bad requests
in an interval, x_c ~ Binomial(m, pi) with pi = r n_c / (r n_c + n_s) at the edge of H0. For phi in
`RATIOS` the likelihood ratio against pi_phi = phi r n_c / (phi r n_c + n_s) is multiplied up over
the intervals; E is the mean over phi. E is a nonnegative supermartingale under H0, so by Ville's
inequality (Ville, 1939; Ramdas et al., 2023, "Game-theoretic statistics and safe anytime-valid
inference") the chance that it ever reaches 1/alpha is at most alpha, at any number of looks and for
any error pattern that both revisions share.

PASS is the same test with the roles turned (H0: ratio >= `PASS_RATIO`), or a likelihood ratio against
an absolute bad rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_operator.policy.observed import Outcome, Verdict

RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0)
SHRINKS = (2.0, 5.0, 20.0)

#: Tolerated ratio r, the ratio that PASS excludes, the bad rate that PASS excludes, and alpha.
FAIL_RATIO = 1.25
PASS_RATIO = 2.0
PASS_RATE = 0.01
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests and bad ones among them, of both revisions, in one closed interval."""

    canary: int = 0
    canary_bad: int = 0
    stable: int = 0
    stable_bad: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known so far: log likelihood ratios (natural) and totals. Starts at nothing."""

    fail: Sequence[float] = (0.0,) * len(RATIOS)
    pass_ratio: Sequence[float] = (0.0,) * len(RATIOS)
    pass_rate: Sequence[float] = (0.0,) * len(SHRINKS)
    total: Counts = field(default_factory=Counts)


def learn(evidence: Evidence, counts: Counts) -> Evidence:
    """Return the evidence with one more interval. An interval without requests of both teaches nothing of ratios."""
    both = counts.canary > 0 and counts.stable > 0
    total = evidence.total
    return Evidence(
        fail=_add(evidence.fail, [_ratio_step(counts, FAIL_RATIO, phi) for phi in RATIOS], both),
        pass_ratio=_add(evidence.pass_ratio, [_ratio_step(counts, PASS_RATIO, 1 / phi) for phi in RATIOS], both),
        pass_rate=_add(evidence.pass_rate, [_rate_step(counts, PASS_RATE, k) for k in SHRINKS], True),
        total=Counts(
            canary=total.canary + counts.canary,
            canary_bad=total.canary_bad + counts.canary_bad,
            stable=total.stable + counts.stable,
            stable_bad=total.stable_bad + counts.stable_bad,
        ),
    )


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on the canary's errors, with the numbers that decided."""
    failing, total = e_value(evidence.fail), evidence.total
    if total.canary == 0:
        return Verdict(outcome=Outcome.UNDECIDED, message="the canary has answered no request yet")
    numbers = (
        f"errors: canary {total.canary_bad} of {total.canary} ({total.canary_bad / total.canary:.2%}),"
        f" stable {total.stable_bad} of {total.stable}"
        f" ({total.stable_bad / total.stable if total.stable else 0:.2%}), E {failing:.3g} of {1 / ALPHA:.0f}"
    )
    if failing >= 1 / ALPHA:
        return Verdict(outcome=Outcome.FAIL, message=numbers)
    if max(e_value(evidence.pass_ratio), e_value(evidence.pass_rate)) >= 1 / ALPHA:
        return Verdict(outcome=Outcome.PASS, message=numbers)
    return Verdict(outcome=Outcome.UNDECIDED, message=f"{numbers}; needs about {needed(evidence)} more requests")


def needed(evidence: Evidence) -> int:
    """Return about how many further requests without an error the canary needs to pass."""
    best = max(evidence.pass_rate)
    gain = -math.log1p(-PASS_RATE) + math.log1p(-PASS_RATE / SHRINKS[-1])
    return max(1, math.ceil((math.log(len(SHRINKS) / ALPHA) - best) / gain))


def e_value(logs: Sequence[float]) -> float:
    """Return the mean of exp over log likelihood ratios, without overflow."""
    top = max(logs)
    mean = sum(math.exp(value - top) for value in logs) / len(logs)
    return math.exp(min(top + math.log(mean), 700.0))


def _ratio_step(counts: Counts, margin: float, phi: float) -> float:
    """Return the log likelihood ratio of one interval for ratio phi * margin against margin."""
    if not (counts.canary and counts.stable):
        return 0.0
    null = margin * counts.canary / (margin * counts.canary + counts.stable)
    other = phi * margin * counts.canary / (phi * margin * counts.canary + counts.stable)
    return counts.canary_bad * math.log(other / null) + counts.stable_bad * math.log((1 - other) / (1 - null))


def _rate_step(counts: Counts, rate: float, shrink: float) -> float:
    """Return the log likelihood ratio of one interval for a bad rate of rate / shrink against rate."""
    good = counts.canary - counts.canary_bad
    return -counts.canary_bad * math.log(shrink) + good * (math.log1p(-rate / shrink) - math.log1p(-rate))


def _add(old: Sequence[float], new: Sequence[float], counts_at_all: bool) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(old, new, strict=True)) if counts_at_all else tuple(old)
