"""The A/B test: which revision has the larger share of successful answers.

An answer is a success or not: a conversion, or a prediction that agrees with its label. p_A is the share of successes
of stable, p_B that of the canary.

`zTest` is evaluated once, at the first closed interval at which both revisions have the planned sample:
z = (p_B - p_A) / sqrt(p (1 - p) (1/n_A + 1/n_B)) with p pooled, a difference when |z| is beyond the two-sided quantile
(https://en.wikipedia.org/wiki/Two-proportion_Z-test). `sequential` may be evaluated any number of times: the mixture
test of `feedback_test` on the difference by interval, once in each direction, with half of alpha each.

Before a verdict, the users assigned to each revision must agree with the weight
(`split_verification.is_split_right`): otherwise users who are missing on one side may cause the difference.
A verdict is final: later answers do not change it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from model_operator.api.analysis import Comparison, Method
from model_operator.api.sums import SumStats
from model_operator.api.values import replace
from model_operator.observation.values import Outcome, Traffic
from model_operator.policy.analysis.feedback_test import (
    FeedbackState,
    Labels,
    count_labels,
    feedback_from_status,
    feedback_to_status,
    labels_to_status,
)
from model_operator.policy.analysis.metric_test import CountedTest, Counters, QueriedTest, Query
from model_operator.policy.analysis.provider_state import ProviderState, outage_from_status, outage_to_status
from model_operator.policy.analysis.split_verification import is_split_right, observed_percent

Body = Mapping[str, Any]

_WORDS = {
    Outcome.PASS: ": the canary is better",
    Outcome.FAIL: ": the canary is worse",
    Outcome.NO_DIFFERENCE: ": no difference",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCounts:
    """Counts of one interval: users assigned to each revision, and labelled answers."""

    assignments: Traffic = field(default_factory=Traffic)
    answers: Labels = field(default_factory=Labels)

    def __add__(self, other: "UserCounts") -> "UserCounts":
        return UserCounts(assignments=_sum(self.assignments, other.assignments), answers=self.answers + other.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AbTestState(ProviderState):
    """Users and answers since the test began. `decision` is Undecided until the test has been decided."""

    assignments: Traffic = field(default_factory=Traffic)
    answers: FeedbackState = field(default_factory=FeedbackState)
    decision: Outcome = Outcome.UNDECIDED

    @property
    def e_values(self) -> tuple[float, float]:
        """E for "the canary is better" and for "it is worse"."""
        return self.answers.e_value(0.0, sign=-1), self.answers.e_value(0.0, sign=1)


class AbTest(CountedTest[AbTestState, UserCounts], QueriedTest[AbTestState]):
    """Which of two revisions is better: Pass when the canary won, Fail when it lost."""

    __slots__ = ()
    shares_alpha = False

    @property
    def test(self) -> Comparison:
        """The comparison in the spec.

        Raises:
            TypeError: the metric is not an A/B test.
        """
        if self.metric.comparison is None:
            raise TypeError(f"{self.metric.name} has no comparison")
        return self.metric.comparison

    @property
    def decides_at(self) -> float:
        """The evidence at which a sequential test is decided: half of alpha for each direction."""
        return 2 / self.test.alpha

    @property
    def can_pass(self) -> bool:
        return True

    def start(self) -> AbTestState:
        return AbTestState()

    def count(self, state: AbTestState, before: Counters, after: Counters, *, is_canary: bool) -> UserCounts:
        """Count users, and answers if no provider counts them."""
        users = max(after.assigned - before.assigned, 0)
        return UserCounts(
            assignments=Traffic(canary=users) if is_canary else Traffic(stable=users),
            answers=Labels()
            if self.test.source is not None
            else count_labels(self.metric.name, before, after, is_canary=is_canary),
        )

    def update(self, state: AbTestState, counts: UserCounts) -> AbTestState:
        assigned = replace(state, assignments=_sum(state.assignments, counts.assignments))
        return self._decided(replace(assigned, answers=state.answers.plus(counts.answers)))

    def queries(self, canary: str, stable: str) -> Sequence[Query]:
        """Query successes and all answers, of the canary and then of stable."""
        source = self.test.source
        if source is None:
            return ()
        all_answers = replace(source, query=self.test.sample_query)
        return [Query(source=one, revision=revision) for revision in (canary, stable) for one in (source, all_answers)]

    def apply_answer(self, state: AbTestState, values: Sequence[float | None]) -> AbTestState:
        """Replace the counts, which a provider sums from the start of the test; None leaves them unchanged."""
        canary_right, canary, stable_right, stable = values
        labels = Labels(canary=_sums(canary_right, canary), stable=_sums(stable_right, stable))
        answered = state.answered()
        if labels == Labels():
            return answered
        return self._decided(replace(answered, answers=FeedbackState().plus(labels)))

    def verdict(self, state: AbTestState) -> Outcome:
        """Return the decision; there is none before the split has been verified."""
        is_right = is_split_right(state.assignments, self.test.weight)
        if is_right is False:
            return Outcome.SAMPLE_RATIO_MISMATCH
        return state.decision if is_right else Outcome.UNDECIDED

    def message(self, state: AbTestState) -> str:
        name, users = self.metric.name, state.assignments
        if state.problem:
            return f"{name}: {state.problem}"
        share = observed_percent(users)
        if share is None:
            return f"{name}: no user was assigned to a revision yet"
        split = (
            f"{users.canary} of {users.canary + users.stable} users, {share} %, but the weight is {self.test.weight} %"
        )
        if is_split_right(users, self.test.weight) is False:
            return f"{name}: the split is broken, so there is no verdict: the canary has {split}"
        canary, stable = state.answers.total.canary, state.answers.total.stable
        if not canary.count or not stable.count:
            counts = f"{canary.count:.0f} answers on the canary, {stable.count:.0f} on stable"
            return f"{name}: {counts}; the canary has {split}"
        shares = (
            f"{name}: canary {1 - canary.mean:.4f} of {canary.count:.0f} answers,"
            f" stable {1 - stable.mean:.4f} of {stable.count:.0f}"
        )
        return f"{shares}, {self._progress(state)}"

    def to_status(self, state: AbTestState) -> dict[str, Any]:
        total, missing = state.answers.total, self._needed(state)
        entry: dict[str, Any] = {
            "labels": labels_to_status(total),
            "users": {"canary": state.assignments.canary, "stable": state.assignments.stable},
            "decision": str(state.decision),
            "state": feedback_to_status(state.answers),
        }
        if missing:
            entry["needLabels"] = missing
        if total.canary.count and total.stable.count:
            entry["value"] = {"canary": round(1 - total.canary.mean, 6), "stable": round(1 - total.stable.mean, 6)}
        if self.test.method is Method.SEQUENTIAL:
            entry |= {"evidence": round(max(state.e_values), 3), "failAt": self.decides_at}
        return entry | outage_to_status(state)

    def from_status(self, entry: Body) -> AbTestState:
        return AbTestState(
            assignments=Traffic(stable=entry["users"]["stable"], canary=entry["users"]["canary"]),
            answers=feedback_from_status(entry["state"]),
            decision=Outcome(entry["decision"]),
            **outage_from_status(entry),
        )

    def _progress(self, state: AbTestState) -> str:
        missing = self._needed(state)
        if missing:
            return f"no verdict before {self.test.sample} of each ({missing} are missing)"
        total, words = state.answers.total, _WORDS.get(state.decision, "")
        if self.test.method is Method.Z_TEST:
            return f"z {z_score(total.canary, total.stable):.2f}{words}"
        return f"E {max(state.e_values):.3g} of {self.decides_at:.0f}{words}"

    def _needed(self, state: AbTestState) -> int:
        """Return the number of missing answers on the side with fewer of them; 0 once the test may be evaluated."""
        if state.decision is not Outcome.UNDECIDED:
            return 0
        total = state.answers.total
        return max(math.ceil(self.test.sample - min(total.canary.count, total.stable.count)), 0)

    def _decided(self, state: AbTestState) -> AbTestState:
        answers = state.answers.total
        if (
            state.decision is not Outcome.UNDECIDED
            or min(answers.canary.count, answers.stable.count) < self.test.sample
        ):
            return state
        is_z_test = self.test.method is Method.Z_TEST
        return replace(state, decision=self._z_decision(answers) if is_z_test else self._sequential_decision(state))

    def _z_decision(self, answers: Labels) -> Outcome:
        z = z_score(answers.canary, answers.stable)
        if abs(z) <= NormalDist().inv_cdf(1 - self.test.alpha / 2):
            return Outcome.NO_DIFFERENCE
        return Outcome.PASS if z > 0 else Outcome.FAIL

    def _sequential_decision(self, state: AbTestState) -> Outcome:
        better, worse = state.e_values
        if max(better, worse) < self.decides_at:
            return Outcome.UNDECIDED
        return Outcome.PASS if better > worse else Outcome.FAIL


def z_score(canary: SumStats, stable: SumStats) -> float:
    """Return z of the canary's share of successes above that of stable; 0 if all answers are equal."""
    pooled = (canary.total + stable.total) / (canary.count + stable.count)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / canary.count + 1 / stable.count))
    return (stable.mean - canary.mean) / spread if spread else 0.0


def _sums(right: float | None, all_answers: float | None) -> SumStats:
    """Return the sums of the answers that a provider counted."""
    if right is None or not all_answers:
        return SumStats()
    wrong = min(max(all_answers - right, 0.0), all_answers)
    return SumStats(count=all_answers, total=wrong, squares=wrong)


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(stable=one.stable + other.stable, canary=one.canary + other.canary)
