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
ratio against an absolute bad rate (`pass_rate`). An upper bound of the bad rate (`maximum`) is tested
by likelihood ratios as well (`limit_e_value`); the mean of two e-values is one again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import Metric
from model_operator.api.json import Body
from model_operator.observation.values import Outcome

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
    """What is known so far of one metric: log likelihood ratios (natural) and totals. StartupEvents at nothing."""

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
    if fail_evidence(metric, evidence) >= decides_at:
        return Outcome.FAIL
    passed = (
        metric.pass_ratio is not None and e_value(evidence.pass_ratio) >= decides_at,
        metric.pass_rate is not None and e_value(evidence.pass_rate) >= decides_at,
    )
    return Outcome.PASS if any(passed) else Outcome.UNDECIDED


def fail_evidence(metric: Metric, evidence: Evidence) -> float:
    """Return E against the canary: the mean over the tests that the metric has; 0 without one."""
    tests = [e_value(evidence.fail)] if metric.fail_ratio is not None else []
    if metric.maximum is not None:
        tests.append(limit_e_value(evidence.total.canary, evidence.total.canary_bad, metric.maximum))
    return sum(tests) / len(tests) if tests else 0.0


def limit_e_value(trials: int, bad: int, limit: float) -> float:
    """Return E against H0 "the bad rate is at most `limit`": the mean over the odds phi * limit / (1 - limit).

    The likelihood ratio of independent trials depends on their totals alone, so there is nothing to remember.
    """
    null = min(max(limit, 1e-9), 1 - 1e-9)
    odds = [phi * null / (1 - null) for phi in RATIOS]
    others = [one / (1 + one) for one in odds]
    good = trials - bad
    return e_value([bad * math.log(other / null) + good * math.log((1 - other) / (1 - null)) for other in others])


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


def tell_rate(metric: Metric, evidence: Evidence, decides_at: float) -> str:
    """Return the numbers that decide, in one line."""
    total = evidence.total
    if total.canary == 0:
        return f"{metric.name}: the canary has answered no request yet"
    line = (
        f"{metric.name}: canary {total.canary_bad} of {total.canary} ({_rate(total.canary_bad, total.canary):.2%}),"
        f" stable {total.stable_bad} of {total.stable} ({_rate(total.stable_bad, total.stable):.2%})"
    )
    if has_fail_test(metric):
        line += f", E {fail_evidence(metric, evidence):.3g} of {decides_at:.0f}"
    more = needed(metric, evidence, decides_at)
    if judge(metric, evidence, decides_at) is Outcome.UNDECIDED and more is not None:
        line += f", needs about {more} more requests"
    return line


def rate_body(metric: Metric, evidence: Evidence, decides_at: float) -> dict[str, Any]:
    """Return what status shows and remembers."""
    total = evidence.total
    body: dict[str, Any] = {
        "failAt": decides_at,
        "requests": {"canary": total.canary, "stable": total.stable},
        "bad": {"canary": total.canary_bad, "stable": total.stable_bad},
        "badRate": {
            "canary": round(_rate(total.canary_bad, total.canary), 6),
            "stable": round(_rate(total.stable_bad, total.stable), 6),
        },
        # Floats as they are: what is read back is what was known, to the last bit.
        "state": {
            "fail": list(evidence.fail),
            "passRatio": list(evidence.pass_ratio),
            "passRate": list(evidence.pass_rate),
        },
    }
    if has_fail_test(metric):
        body["evidence"] = round(fail_evidence(metric, evidence), 3)
    more = needed(metric, evidence, decides_at)
    if more is not None and judge(metric, evidence, decides_at) is Outcome.UNDECIDED:
        body["needRequests"] = more
    return body


def rate_of(entry: Body) -> Evidence:
    """Read back what `rate_body` wrote."""
    state, requests, bad = entry["state"], entry["requests"], entry["bad"]
    return Evidence(
        fail=_floats(state["fail"]),
        pass_ratio=_floats(state["passRatio"]),
        pass_rate=_floats(state["passRate"]),
        total=Counts(
            canary=requests["canary"], canary_bad=bad["canary"], stable=requests["stable"], stable_bad=bad["stable"]
        ),
    )


def has_fail_test(metric: Metric) -> bool:
    """Whether the metric can fail at all."""
    return metric.fail_ratio is not None or metric.maximum is not None


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


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rate(bad: int, requests: int) -> float:
    return bad / requests if requests else 0.0
