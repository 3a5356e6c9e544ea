"""The test of `data-quality` and `outliers`: are more requests unlike the training data to the canary than to stable?

Both revisions receive the same traffic and compare it with their own training data, so that a lasting difference says
that these differ: the canary has learnt other features, from fewer rows, or from another population.

A request is bad or not, whatever its number of rows: those of one request depend on each other. So do the requests of
one client: the variance is that of `interval_spread`, of S = sum w_i (d_i - margin). There is no verdict before its
effective number of intervals is `MIN_INTERVALS`. E is the normal mixture of `feedback_test`. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import DATA_QUALITY
from model_operator.api.inputs import InputSample
from model_operator.observation.values import MetricState, Outcome
from model_operator.policy.analysis.feedback_test import MIN_SAMPLES, mixture
from model_operator.policy.analysis.interval_spread import MIN_INTERVALS, Counts, Spread
from model_operator.policy.analysis.metric_test import CountedTest, Counters

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputState(MetricState):
    """The intervals so far, and all their requests."""

    spread: Spread = field(default_factory=Spread)
    total: Counts = field(default_factory=Counts)

    def e_value(self, margin: float, *, sign: int) -> float:
        """Return E against H0 "sign * (d - margin) <= 0"."""
        spread, total = self.spread, self.total
        if spread.intervals < MIN_INTERVALS or min(total.canary, total.stable) < MIN_SAMPLES:
            return 1.0
        weight, difference = spread.sums[0], spread.sums[2]
        return mixture(sign * (difference - weight * margin) / math.sqrt(spread.variance(total) / weight), weight)


class InputTest(CountedTest[InputState, Counts]):
    """The share of requests unlike the training data, compared with that of stable."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        return self.metric.pass_drop is not None

    def start(self) -> InputState:
        return InputState()

    def count(self, state: InputState, before: Counters, after: Counters, *, is_canary: bool) -> Counts | None:
        if before.inputs is None or after.inputs is None:
            return None
        total = max(after.inputs.requests - before.inputs.requests, 0)
        bad = min(max(self._bad(after.inputs) - self._bad(before.inputs), 0), total)
        return Counts(canary=total, canary_bad=bad) if is_canary else Counts(stable=total, stable_bad=bad)

    def update(self, state: InputState, counts: Counts) -> InputState:
        return InputState(spread=state.spread.plus(counts), total=state.total + counts)

    def verdict(self, state: InputState) -> Outcome:
        if self.fail_evidence(state) >= self.fail_at:
            return Outcome.FAIL
        margin = self.metric.pass_drop
        is_proven = margin is not None and state.e_value(margin, sign=-1) >= self.fail_at
        return Outcome.PASS if is_proven else Outcome.UNDECIDED

    def fail_evidence(self, state: InputState) -> float:
        """Return E against the canary; 0 without a test."""
        return 0.0 if self.metric.fail_drop is None else state.e_value(self.metric.fail_drop, sign=1)

    def message(self, state: InputState) -> str:
        total, name = state.total, self.metric.name
        for who, requests in (("canary", total.canary), ("stable", total.stable)):
            if not requests:
                return f"{name}: the {who} has compared no request with its training data yet"
        line = (
            f"{name}: canary {total.canary_bad} of {total.canary} ({total.canary_bad / total.canary:.2%}),"
            f" stable {total.stable_bad} of {total.stable} ({total.stable_bad / total.stable:.2%})"
        )
        if self.metric.fail_drop is not None:
            line += f", E {self.fail_evidence(state):.3g} of {self.fail_at:.0f}"
        more = math.ceil(MIN_INTERVALS - state.spread.intervals)
        return f"{line}, needs about {more} more intervals for a verdict" if more > 0 else line

    def to_status(self, state: InputState) -> dict[str, Any]:
        total = state.total
        entry: dict[str, Any] = {
            "failAt": self.fail_at,
            "requests": {"canary": total.canary, "stable": total.stable},
            "bad": {"canary": total.canary_bad, "stable": total.stable_bad},
            "badRate": {
                "canary": round(total.canary_bad / max(total.canary, 1), 6),
                "stable": round(total.stable_bad / max(total.stable, 1), 6),
            },
            # Floats without rounding, so that the restored state is exactly equal.
            "state": {"sums": list(state.spread.sums)},
        }
        if self.metric.fail_drop is not None:
            entry["evidence"] = round(min(self.fail_evidence(state), 1e12), 3)
        return entry

    def from_status(self, entry: Body) -> InputState:
        requests, bad = entry["requests"], entry["bad"]
        total = Counts(
            canary=requests["canary"], canary_bad=bad["canary"], stable=requests["stable"], stable_bad=bad["stable"]
        )
        return InputState(spread=Spread(sums=tuple(map(float, entry["state"]["sums"]))), total=total)

    def _bad(self, inputs: InputSample) -> int:
        return inputs.bad if self.metric.name == DATA_QUALITY else inputs.outliers
