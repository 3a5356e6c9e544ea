"""The judge of an A/B test: which revision do its users answer better to? Pure; `analysis` calls it.

An answer is right or wrong: a conversion or none, a prediction that its label agreed with or not. p_A is stable's share
of right answers, p_B the canary's.

`zTest` is looked at once, at the first closed interval at which both revisions have the planned sample:
z = (p_B - p_A) / sqrt(p (1 - p) (1/n_A + 1/n_B)) with p pooled, a difference when |z| is beyond the two-sided quantile.
`sequential` may be looked at as often as one likes: the mixture test of `quality` on the difference by interval, once
in each direction, with half of alpha each.

Before any verdict the users that the router drew for each revision have to agree with the weight
(`traffic.is_split_right`): where they do not, whoever is missing on one side may be what makes the difference.
A verdict stays: what comes after the look is not looked at.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from model_operator.api.analysis import Comparison, Method, Metric
from model_operator.api.json import Body
from model_operator.api.sums import SumStats
from model_operator.api.values import replace
from model_operator.observation.values import Outcome, Traffic
from model_operator.policy.analysis import feedback_test
from model_operator.policy.analysis.feedback_test import Labels, Quality
from model_operator.policy.analysis.provider_state import ProviderBacked, outage_body, outage_of
from model_operator.policy.analysis.split_verification import is_split_right, observed_percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """What one interval says: users whom the router drew for each revision, and answers about predictions."""

    drawn: Traffic = field(default_factory=Traffic)
    answers: Labels = field(default_factory=Labels)

    def __add__(self, other: "Users") -> "Users":
        return Users(drawn=_sum(self.drawn, other.drawn), answers=self.answers + other.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(ProviderBacked):
    """What is known of an A/B test. `decision` is Undecided until the test has been decided."""

    drawn: Traffic = field(default_factory=Traffic)
    answers: Quality = field(default_factory=Quality)
    decision: Outcome = Outcome.UNDECIDED


def learn(test: Comparison, known: Compared, users: Users) -> Compared:
    """Return what is known with one more interval."""
    drawn = replace(known, drawn=_sum(known.drawn, users.drawn))
    return _decided(test, replace(drawn, answers=feedback_test.learn(known.answers, users.answers)))


def told(test: Comparison, known: Compared, answers: Labels) -> Compared:
    """Return what is known when a provider has counted all answers since the test began; none is no evidence."""
    healthy = known.answered()
    if answers == Labels():
        return healthy
    return _decided(test, replace(healthy, answers=feedback_test.learn(Quality(), answers)))


def judge(test: Comparison, known: Compared) -> Outcome:
    """Return the verdict: Pass when the canary won, Fail when it lost; none before the split has been checked."""
    is_right = is_split_right(known.drawn, test.weight)
    if is_right is False:
        return Outcome.SAMPLE_RATIO_MISMATCH
    return known.decision if is_right else Outcome.UNDECIDED


def _decided(test: Comparison, known: Compared) -> Compared:
    answers = known.answers.total
    if known.decision is not Outcome.UNDECIDED or min(answers.canary.count, answers.stable.count) < test.sample:
        return known
    return replace(known, decision=_z_verdict(test, answers) if test.method is Method.Z_TEST else _verdict(test, known))


def _z_verdict(test: Comparison, answers: Labels) -> Outcome:
    z = z_score(answers.canary, answers.stable)
    if abs(z) <= NormalDist().inv_cdf(1 - test.alpha / 2):
        return Outcome.NO_DIFFERENCE
    return Outcome.PASS if z > 0 else Outcome.FAIL


def _verdict(test: Comparison, known: Compared) -> Outcome:
    better, worse = e_values(known)
    if max(better, worse) < decides_at(test):
        return Outcome.UNDECIDED
    return Outcome.PASS if better > worse else Outcome.FAIL


def z_score(canary: SumStats, stable: SumStats) -> float:
    """Return z of the canary's share of right answers above stable's; 0 when all answers are alike."""
    pooled = (canary.total + stable.total) / (canary.count + stable.count)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / canary.count + 1 / stable.count))
    return (stable.mean - canary.mean) / spread if spread else 0.0


def e_values(known: Compared) -> tuple[float, float]:
    """Return E for "the canary is better" and for "it is worse"."""
    return (
        feedback_test.difference_e_value(known.answers, 0.0, sign=-1),
        feedback_test.difference_e_value(known.answers, 0.0, sign=1),
    )


def decides_at(test: Comparison) -> float:
    """Return the evidence at which a sequential test is decided: half of alpha for each direction."""
    return 2 / test.alpha


def tell(metric: Metric, test: Comparison, known: Compared) -> str:
    """Return the numbers that decide, in one line."""
    name = metric.name
    if known.problem:
        return f"{name}: {known.problem}"
    drawn, share = known.drawn, observed_percent(known.drawn)
    if share is None:
        return f"{name}: no user was drawn for a revision yet"
    users = f"{drawn.canary} of {drawn.canary + drawn.stable} users, {share} % where {test.weight} % are wanted"
    if is_split_right(drawn, test.weight) is False:
        return f"{name}: the split is broken, so there is no verdict: the canary has {users}"
    canary, stable = known.answers.total.canary, known.answers.total.stable
    if not canary.count or not stable.count:
        return f"{name}: {canary.count:.0f} answers on the canary, {stable.count:.0f} on stable; the canary has {users}"
    shares = (
        f"{name}: canary {1 - canary.mean:.4f} of {canary.count:.0f} answers,"
        f" stable {1 - stable.mean:.4f} of {stable.count:.0f}"
    )
    return f"{shares}, {_how_far(test, known, canary, stable)}"


def _how_far(test: Comparison, known: Compared, canary: SumStats, stable: SumStats) -> str:
    missing = test.sample - min(canary.count, stable.count)
    if known.decision is Outcome.UNDECIDED and missing > 0:
        return f"no look before {test.sample} of each ({missing:.0f} are missing)"
    words = {
        Outcome.PASS: ": the canary is better",
        Outcome.FAIL: ": the canary is worse",
        Outcome.NO_DIFFERENCE: ": no difference",
    }.get(known.decision, "")
    if test.method is Method.Z_TEST:
        return f"z {z_score(canary, stable):.2f}{words}"
    return f"E {max(e_values(known)):.3g} of {decides_at(test):.0f}{words}"


def body(test: Comparison, known: Compared) -> dict[str, Any]:
    """Return what status shows and remembers."""
    state = feedback_test.state_body(known.answers)
    total = known.answers.total
    shown: dict[str, Any] = {
        "labels": {"canary": int(total.canary.count), "stable": int(total.stable.count)},
        "users": {"canary": known.drawn.canary, "stable": known.drawn.stable},
        "decision": str(known.decision),
        "state": state,
    }
    if total.canary.count and total.stable.count:
        shown["value"] = {"canary": round(1 - total.canary.mean, 6), "stable": round(1 - total.stable.mean, 6)}
    if test.method is Method.SEQUENTIAL:
        shown |= {"evidence": round(max(e_values(known)), 3), "failAt": decides_at(test)}
    return shown | outage_body(known)


def read(entry: Body) -> Compared:
    """Read back what `body` wrote."""
    return Compared(
        drawn=Traffic(stable=entry["users"]["stable"], canary=entry["users"]["canary"]),
        answers=feedback_test.quality_of(entry),
        decision=Outcome(entry["decision"]),
        **outage_of(entry),
    )


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(stable=one.stable + other.stable, canary=one.canary + other.canary)
