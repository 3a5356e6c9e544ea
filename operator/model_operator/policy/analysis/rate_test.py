"""The test of `errors`, `refusals` and `latency`: an anytime-valid test of counts, which may be evaluated at any time.

Per closed interval there are n requests and x bad ones among them, of canary (c) and stable (s).

FAIL tests H0 "the canary's bad rate is at most r times stable's". Given m = x_c + x_s bad requests
in an interval, x_c ~ Binomial(m, pi) with pi = r n_c / (r n_c + n_s) at the edge of H0. For phi in
`RATIOS` the likelihood ratio against pi_phi = phi r n_c / (phi r n_c + n_s) is multiplied up over
the intervals; E is the mean over phi. E is a nonnegative supermartingale under H0, so by Ville's
inequality (Ville, 1939; Ramdas et al., 2023, "Game-theoretic statistics and safe anytime-valid
inference") the chance that it ever reaches 1/alpha is at most alpha, at any number of looks and for
any error pattern that both revisions share.

PASS is the same test with the roles swapped (H0: ratio >= the metric's `pass_ratio`), or a likelihood
ratio against an absolute bad rate (`pass_rate`). An upper bound of the bad rate (`maximum`) is tested
by likelihood ratios as well (`limit_e_value`); the mean of two e-values is one again.

Invalid requests are repeated by the client that sends them, and its connection may lead to one revision: `refusals` are
not independent. Their E is the mean of two. One takes an interval for one request: with m refusals, x_c of them of
the canary, the factor is the mean of their likelihood ratios, whose expectation under H0 is at most 1 whatever
depends on what inside of the interval. The other divides the logarithms by the dispersion that `interval_spread` sees
(quasi-likelihood: McCullagh and Nelder, 1989, 9.2) as soon as it sees one; until then, the first counts alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import LATENCY, REFUSALS
from model_operator.api.values import replace
from model_operator.observation.values import MetricState, Outcome
from model_operator.policy.analysis.interval_spread import MIN_INTERVALS, Counts, Spread
from model_operator.policy.analysis.metric_test import CountedTest, Counters

Body = Mapping[str, Any]

#: Multiples of the tolerated ratio that the alternatives of the FAIL test assume.
RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0)
#: Divisors of the rate that the alternatives of the PASS test assume.
DIVISORS = (2.0, 5.0, 20.0)
#: Share of stable's requests above the threshold of a slow request, without `slowerThan` in the spec.
_SLOW_QUANTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState(MetricState):
    """Log likelihood ratios (natural) and totals. Above `threshold`, in seconds, a request counts as slow.

    `fail_intervals` are those of whole intervals, and `spread` what they tell, of `refusals` alone.
    """

    fail: Sequence[float] = (0.0,) * len(RATIOS)
    fail_intervals: Sequence[float] = (0.0,) * len(RATIOS)
    spread: Spread = field(default_factory=Spread)
    pass_ratio: Sequence[float] = (0.0,) * len(RATIOS)
    pass_rate: Sequence[float] = (0.0,) * len(DIVISORS)
    total: Counts = field(default_factory=Counts)
    threshold: float | None = None


class RateTest(CountedTest[RateState, Counts]):
    """The rate of bad requests, compared with that of stable."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        return self.metric.pass_ratio is not None or self.metric.pass_rate is not None

    def start(self) -> RateState:
        return RateState()

    def calibrate(self, state: RateState, stable: Mapping[float, int]) -> RateState:
        """Set the threshold of a slow request as soon as stable has answered requests.

        It is the histogram's bucket edge at or above `slowerThan`, or at or above stable's 99th percentile: between two
        edges a histogram has no counts. The last edge is the largest threshold.
        """
        if self.metric.name != LATENCY or state.threshold is not None or not stable.get(math.inf):
            return state
        edges = sorted(edge for edge in stable if edge != math.inf)
        return replace(state, threshold=self._threshold(edges, stable)) if edges else state

    def count(self, state: RateState, before: Counters, after: Counters, *, is_canary: bool) -> Counts | None:
        increase = self._increase(state, before, after)
        if increase is None:
            return None
        total, bad = max(increase[0], 0), max(increase[1], 0)
        return Counts(canary=total, canary_bad=bad) if is_canary else Counts(stable=total, stable_bad=bad)

    def _increase(self, state: RateState, before: Counters, after: Counters) -> tuple[int, int] | None:
        """Return the requests and the bad ones among them; None without a threshold or without the server's counter."""
        if self.metric.name == LATENCY:
            if state.threshold is None:
                return None
            total = _at_most(after, math.inf) - _at_most(before, math.inf)
            return total, total - (_at_most(after, state.threshold) - _at_most(before, state.threshold))
        total = after.requests - before.requests
        if self.metric.name != REFUSALS:
            return total, after.errors - before.errors
        if before.refusals is None or after.refusals is None:
            return None
        return total, after.refusals - before.refusals

    def update(self, state: RateState, counts: Counts) -> RateState:
        """Return the state with one more interval; ratios need requests of both revisions."""
        metric = self.metric
        fail, ratio, rate = state.fail, state.pass_ratio, state.pass_rate
        if metric.name == REFUSALS:
            state = _with_interval(state, counts, metric.fail_ratio)
        if counts.canary and counts.stable:
            if metric.fail_ratio is not None:
                fail = _add(fail, [_ratio_step(counts, metric.fail_ratio, phi) for phi in RATIOS])
            if metric.pass_ratio is not None:
                ratio = _add(ratio, [_ratio_step(counts, metric.pass_ratio, 1 / phi) for phi in RATIOS])
        if metric.pass_rate is not None:
            rate = _add(rate, [_rate_step(counts, metric.pass_rate, divisor) for divisor in DIVISORS])
        return replace(state, fail=fail, pass_ratio=ratio, pass_rate=rate, total=state.total + counts)

    def verdict(self, state: RateState) -> Outcome:
        if self.fail_evidence(state) >= self.fail_at:
            return Outcome.FAIL
        passed = (
            self.metric.pass_ratio is not None and e_value(state.pass_ratio) >= self.fail_at,
            self.metric.pass_rate is not None and e_value(state.pass_rate) >= self.fail_at,
        )
        return Outcome.PASS if any(passed) else Outcome.UNDECIDED

    def fail_evidence(self, state: RateState) -> float:
        """Return E against the canary: the mean over the tests of the metric; 0 without a test."""
        tests = [self._ratio_evidence(state)] if self.metric.fail_ratio is not None else []
        if self.metric.maximum is not None:
            tests.append(limit_e_value(state.total.canary, state.total.canary_bad, self.metric.maximum))
        return sum(tests) / len(tests) if tests else 0.0

    def is_suspicious(self, state: RateState) -> bool:
        """Whether refusals would fail the canary if they were independent, and it is too early to see how they are."""
        is_early = self.metric.name == REFUSALS and state.spread.intervals < MIN_INTERVALS
        return is_early and self.metric.fail_ratio is not None and e_value(state.fail) >= self.fail_at

    def _ratio_evidence(self, state: RateState) -> float:
        if self.metric.name != REFUSALS:
            return e_value(state.fail)
        by_interval, spread = e_value(state.fail_intervals), state.spread
        if spread.intervals < MIN_INTERVALS:
            return by_interval
        independent = spread.independent(state.total)
        dispersion = spread.variance(state.total) / independent if independent else 1.0
        return (by_interval + e_value([log / dispersion for log in state.fail])) / 2

    def message(self, state: RateState) -> str:
        total, name = state.total, self.metric.name
        if state.threshold is not None:
            name = f"{name} above {state.threshold * 1000:g} ms"
        if total.canary == 0 and name == REFUSALS:
            return f"{name}: none of the canary's requests is counted; older servers do not count refusals"
        if total.canary == 0:
            return f"{name}: the canary has answered no request yet"
        line = (
            f"{name}: canary {total.canary_bad} of {total.canary} ({_rate(total.canary_bad, total.canary):.2%}),"
            f" stable {total.stable_bad} of {total.stable} ({_rate(total.stable_bad, total.stable):.2%})"
        )
        if self.has_fail_test:
            line += f", E {self.fail_evidence(state):.3g} of {self.fail_at:.0f}"
        if self.is_suspicious(state) and self.verdict(state) is Outcome.UNDECIDED:
            intervals = math.ceil(MIN_INTERVALS - state.spread.intervals)
            return f"{line}, needs up to {intervals} more intervals: they may be those of one client"
        more = self.needed(state)
        return line if more is None else f"{line}, needs about {more} more requests"

    def to_status(self, state: RateState) -> dict[str, Any]:
        total = state.total
        entry: dict[str, Any] = {
            "failAt": self.fail_at,
            "requests": {"canary": total.canary, "stable": total.stable},
            "bad": {"canary": total.canary_bad, "stable": total.stable_bad},
            "badRate": {
                "canary": round(_rate(total.canary_bad, total.canary), 6),
                "stable": round(_rate(total.stable_bad, total.stable), 6),
            },
            # Floats without rounding, so that the restored state is exactly equal.
            "state": {
                "fail": list(state.fail),
                "passRatio": list(state.pass_ratio),
                "passRate": list(state.pass_rate),
            },
        }
        if self.metric.name == REFUSALS:
            entry["state"] |= {"failIntervals": list(state.fail_intervals), "sums": list(state.spread.sums)}
        if self.has_fail_test:
            entry["evidence"] = round(self.fail_evidence(state), 3)
        optional = {"needRequests": self.needed(state), "threshold": state.threshold}
        return entry | {name: number for name, number in optional.items() if number is not None}

    def from_status(self, entry: Body) -> RateState:
        state, requests, bad = entry["state"], entry["requests"], entry["bad"]
        total = Counts(
            canary=requests["canary"], canary_bad=bad["canary"], stable=requests["stable"], stable_bad=bad["stable"]
        )
        found = RateState(
            fail=_floats(state["fail"]),
            pass_ratio=_floats(state["passRatio"]),
            pass_rate=_floats(state["passRate"]),
            total=total,
            threshold=entry.get("threshold"),
        )
        # Earlier releases saw no spread of refusals: it is seen from now on.
        if "sums" not in state:
            return found
        return replace(
            found,
            fail_intervals=_floats(state["failIntervals"]),
            spread=Spread(sums=_floats(state["sums"])),
        )

    @property
    def has_fail_test(self) -> bool:
        """Whether the metric can fail at all."""
        return self.metric.fail_ratio is not None or self.metric.maximum is not None

    def needed(self, state: RateState) -> int | None:
        """Return about how many further requests without a bad one the canary needs to pass.

        None once there is a verdict, and where only a ratio can pass.
        """
        if self.metric.pass_rate is None or self.verdict(state) is not Outcome.UNDECIDED:
            return None
        return needed(state.pass_rate, self.metric.pass_rate, self.fail_at)

    def _threshold(self, edges: list[float], stable: Mapping[float, int]) -> float:
        slower_than = self.metric.slower_than
        if slower_than is None:
            enough = _SLOW_QUANTILE * stable[math.inf]
            return next((edge for edge in edges if stable[edge] >= enough), edges[-1])
        return next((edge for edge in edges if edge >= slower_than.total_seconds()), edges[-1])


def e_value(logs: Sequence[float]) -> float:
    """Return the mean of exp over log likelihood ratios, without overflow."""
    top = max(logs)
    mean = sum(math.exp(value - top) for value in logs) / len(logs)
    return math.exp(min(top + math.log(mean), 700.0))


def limit_e_value(trials: int, bad: int, limit: float) -> float:
    """Return E against H0 "the bad rate is at most `limit`": the mean over the odds phi * limit / (1 - limit).

    The likelihood ratio of independent trials depends on their totals alone, so it needs no state.
    """
    null = min(max(limit, 1e-9), 1 - 1e-9)
    odds = [phi * null / (1 - null) for phi in RATIOS]
    others = [one / (1 + one) for one in odds]
    good = trials - bad
    return e_value([bad * math.log(other / null) + good * math.log((1 - other) / (1 - null)) for other in others])


def rate_logs(trials: int, bad: int, rate: float) -> tuple[float, ...]:
    """Return the log likelihood ratios for "the bad rate is below `rate`", one for each of `DIVISORS`."""
    counts = Counts(canary=trials, canary_bad=bad)
    return tuple(_rate_step(counts, rate, divisor) for divisor in DIVISORS)


def needed(logs: Sequence[float], rate: float, fail_at: float) -> int:
    """Return about how many further good requests it takes until the bad rate is shown to be below `rate`."""
    gain = -math.log1p(-rate) + math.log1p(-rate / DIVISORS[-1])
    return max(1, math.ceil((math.log(len(DIVISORS) * fail_at) - max(logs)) / gain))


def _with_interval(state: RateState, counts: Counts, margin: float | None) -> RateState:
    """Return the state with what a whole interval tells."""
    bad, logs = counts.canary_bad + counts.stable_bad, state.fail_intervals
    if margin is not None and bad and counts.canary and counts.stable:
        logs = _add(logs, [math.log(_mean_ratio(counts, margin, phi)) for phi in RATIOS])
    return replace(state, fail_intervals=logs, spread=state.spread.plus(counts))


def _mean_ratio(counts: Counts, margin: float, phi: float) -> float:
    """Return the mean likelihood ratio of the bad requests of an interval, each taken alone."""
    null, other = _shares(counts, margin, phi)
    of_canary = counts.canary_bad / (counts.canary_bad + counts.stable_bad)
    return of_canary * other / null + (1 - of_canary) * (1 - other) / (1 - null)


def _shares(counts: Counts, margin: float, phi: float) -> tuple[float, float]:
    """Return the canary's share of the bad requests for ratio `margin`, and for phi * margin."""
    null = margin * counts.canary / (margin * counts.canary + counts.stable)
    return null, phi * margin * counts.canary / (phi * margin * counts.canary + counts.stable)


def _ratio_step(counts: Counts, margin: float, phi: float) -> float:
    """Return the log likelihood ratio of one interval for ratio phi * margin against margin."""
    null, other = _shares(counts, margin, phi)
    return counts.canary_bad * math.log(other / null) + counts.stable_bad * math.log((1 - other) / (1 - null))


def _rate_step(counts: Counts, rate: float, divisor: float) -> float:
    """Return the log likelihood ratio of one interval for a bad rate of rate / divisor against rate."""
    good = counts.canary - counts.canary_bad
    # At a rate of 1, a good answer is impossible under the null hypothesis.
    gain = math.log1p(-rate / divisor) - math.log1p(-min(rate, 1 - 1e-9))
    return -counts.canary_bad * math.log(divisor) + good * gain


def _add(old: Sequence[float], new: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(old, new, strict=True))


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rate(bad: int, requests: int) -> float:
    return bad / requests if requests else 0.0


def _at_most(counters: Counters, edge: float) -> int:
    return counters.durations.get(edge, 0)
