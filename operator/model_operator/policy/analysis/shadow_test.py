"""The test of `shadow-agreement` and `shadow-distance`: two revisions answer the same requests.

A request and the copy that a router mirrors to the canary have the same digest, and so have requests that happen to be
alike: whatever both revisions answered since the poll before the last one is a pair, once in each poll
(`shadow_pairs`).

Every pair has a loss y. `shadow-agreement`: 1 when the answers differ, 0 when they agree. They agree when they have
as many values and each is the same label, or a number within `tolerance` (or within a millionth of it, for libraries
round differently). FAIL tests H0 "P(y = 1) <= 1 - min" and PASS H0 "P(y = 1) >= 1 - min", both by the likelihood
ratios of `rate_test`, on totals alone. Where all have to agree (`min` 1), one that does not decides, and nothing can
prove the opposite: the metric fails and never passes.

`shadow-distance`: the mean over the values of |canary - stable|, or of that divided by the larger of the two. FAIL
tests H0 "E y <= max" and PASS H0 "E y >= max" by the mixture of `feedback_test`, in units of `max`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_operator.api.analysis import SHADOW_AGREEMENT
from model_operator.api.shadow import Prediction
from model_operator.api.sums import SumStats
from model_operator.observation.values import Outcome
from model_operator.policy.analysis import rate_test
from model_operator.policy.analysis.feedback_test import MIN_SAMPLES, mixture
from model_operator.policy.analysis.metric_test import Pair, PairedTest
from model_operator.policy.analysis.provider_state import ProviderState, outage_from_status, outage_to_status

Body = Mapping[str, Any]

#: Numbers of this relative distance are the same: batches and libraries round differently.
ROUNDING = 1e-6
#: Evidence of a certain failure; JSON has no infinity.
_PROOF = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowState(ProviderState):
    """Number of pairs, and the losses of those that have one."""

    pairs: int = 0
    loss: SumStats = field(default_factory=SumStats)


class ShadowTest(PairedTest[ShadowState]):
    """The predictions of both revisions for the same requests."""

    __slots__ = ()

    @property
    def can_pass(self) -> bool:
        # If all answers must agree, the next one may not.
        return not self.is_agreement or self.metric.minimum != 1

    def start(self) -> ShadowState:
        return ShadowState()

    def apply_pairs(self, state: ShadowState, pairs: Sequence[Pair]) -> ShadowState:
        losses = [loss for ours, theirs in pairs if (loss := self.loss(ours, theirs)) is not None]
        sums = SumStats(count=len(losses), total=sum(losses), squares=sum(loss * loss for loss in losses))
        return ShadowState(pairs=state.pairs + len(pairs), loss=state.loss + sums)

    @property
    def is_agreement(self) -> bool:
        """Whether the metric compares answers for agreement, rather than by distance."""
        return self.metric.name == SHADOW_AGREEMENT

    def loss(self, ours: Prediction, theirs: Prediction) -> float | None:
        """Return the loss of one pair; None if it has none, such as the distance of two labels."""
        if self.is_agreement:
            return 0.0 if agree(ours, theirs, self.metric.tolerance) else 1.0
        return distance(ours, theirs, relative=self.metric.relative)

    def verdict(self, state: ShadowState) -> Outcome:
        if self.fail_evidence(state) >= self.fail_at:
            return Outcome.FAIL
        return Outcome.PASS if self._pass_evidence(state) >= self.fail_at else Outcome.UNDECIDED

    def fail_evidence(self, state: ShadowState) -> float:
        """Return E against the canary."""
        if not self.is_agreement:
            return self._distance_e_value(state, sign=1)
        limit, differing = self._limit, round(state.loss.total)
        if not limit:
            return _PROOF if differing else 1.0
        return rate_test.limit_e_value(round(state.loss.count), differing, limit)

    def message(self, state: ShadowState) -> str:
        metric, count = self.metric, round(state.loss.count)
        if state.problem:
            return f"{metric.name}: {state.problem}"
        if not state.pairs:
            return f"{metric.name}: no mirrored requests yet: setMirrorRoute copies requests to the canary"
        e_value = f"E {self.fail_evidence(state):.3g} of {self.fail_at:.0f}"
        if self.is_agreement:
            agreeing = count - round(state.loss.total)
            line = (
                f"{metric.name}: {agreeing} of {count} mirrored requests agree ({agreeing / count:.2%}),"
                f" at least {metric.minimum or 0:.4g} required, {e_value}"
            )
            more = self._needed(state)
            return line if more is None else f"{line}, needs about {more} more requests"
        if not count:
            return (
                f"{metric.name}: {state.pairs} mirrored requests, none with numbers in both answers:"
                f" use {SHADOW_AGREEMENT}"
            )
        line = (
            f"{metric.name}: mean {state.loss.mean:.4g} of {count} mirrored requests, {metric.maximum or 0:.4g} allowed"
        )
        return f"{line}, {e_value}" if count >= MIN_SAMPLES else f"{line}, needs {MIN_SAMPLES} for a verdict"

    def to_status(self, state: ShadowState) -> dict[str, Any]:
        total, bound = state.loss, "min" if self.is_agreement else "max"
        entry: dict[str, Any] = {
            "failAt": self.fail_at,
            "evidence": round(self.fail_evidence(state), 3),
            bound: (self.metric.minimum if self.is_agreement else self.metric.maximum) or 0,
            "mirrored": state.pairs,
            "state": {"badness": [total.count, total.total, total.squares]},  # named as in the first release
        }
        if total.count:
            entry["value"] = round(1 - total.mean if self.is_agreement else total.mean, 6)
        more = self._needed(state) if state.pairs else None
        return entry | ({} if more is None else {"needRequests": more}) | outage_to_status(state)

    def from_status(self, entry: Body) -> ShadowState:
        count, total, squares = entry["state"]["badness"]
        return ShadowState(
            pairs=entry["mirrored"],
            loss=SumStats(count=count, total=float(total), squares=float(squares)),
            **outage_from_status(entry),
        )

    def _pass_evidence(self, state: ShadowState) -> float:
        if not self.is_agreement:
            return self._distance_e_value(state, sign=-1)
        return rate_test.e_value(self._pass_logs(state)) if self._limit else 1.0

    def _pass_logs(self, state: ShadowState) -> Sequence[float]:
        return rate_test.rate_logs(round(state.loss.count), round(state.loss.total), self._limit)

    def _needed(self, state: ShadowState) -> int | None:
        """Return about how many further requests with equal answers are needed to pass; None if unknown."""
        if not self.is_agreement or not self._limit or self.verdict(state) is not Outcome.UNDECIDED:
            return None
        return rate_test.needed(self._pass_logs(state), self._limit, self.fail_at)

    def _distance_e_value(self, state: ShadowState, *, sign: int) -> float:
        """Return E against H0 "sign * (mean - max) <= 0"."""
        return distance_e_value(state.loss, float(self.metric.maximum or 0), sign=sign)

    @property
    def _limit(self) -> float:
        """Largest share of answers that may differ."""
        return 1 - self.metric.minimum if self.metric.minimum is not None else 0.0


def distance_e_value(loss: SumStats, limit: float, *, sign: int) -> float:
    """Return E against H0 "sign * (mean - limit) <= 0" of distances with these sums."""
    if loss.count < MIN_SAMPLES or not limit:
        return 1.0
    scaled = SumStats(count=loss.count, total=loss.total / limit, squares=loss.squares / limit**2)
    return mixture(sign * (scaled.total - scaled.count) / math.sqrt(scaled.variance), scaled.count)


def agree(ours: Prediction, theirs: Prediction, tolerance: float) -> bool:
    """Whether two answers agree."""
    if ours.size != theirs.size or ours.labels != theirs.labels or len(ours.numbers) != len(theirs.numbers):
        return False
    return all(
        a == b if a is None or b is None else math.isclose(a, b, rel_tol=ROUNDING, abs_tol=tolerance)
        for a, b in zip(ours.numbers, theirs.numbers, strict=True)
    )


def distance(ours: Prediction, theirs: Prediction, *, relative: bool) -> float | None:
    """Return the mean distance of the numbers of two answers; None if they have none, or differ in size."""
    if ours.size != theirs.size:
        return None
    finite = [(a, b) for a, b in zip(ours.numbers, theirs.numbers, strict=False) if a is not None and b is not None]
    if not finite:
        return None
    return sum(_relative(a, b) if relative else abs(a - b) for a, b in finite) / len(finite)


def _relative(a: float, b: float) -> float:
    largest = max(abs(a), abs(b))
    return abs(a - b) / largest if largest else 0.0
