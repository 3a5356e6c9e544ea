"""Checks of values of a metric provider against bounds (guards)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_operator.api.analysis import Guard
from model_operator.api.values import replace
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.metric_test import QueriedTest, Query
from model_operator.policy.analysis.provider_state import ProviderState, outage_from_status, outage_to_status

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdState(ProviderState):
    """The last value, the number of intervals with a value, and of those with a value out of bounds."""

    value: float | None = None
    intervals: int = 0
    failures: int = 0


class ThresholdCheck(QueriedTest[ThresholdState]):
    """A value with bounds: Fail above the limit of failures, Pass while the last value is within bounds."""

    __slots__ = ()
    shares_alpha = False

    @property
    def guard(self) -> Guard:
        """The guard in the spec.

        Raises:
            TypeError: the metric is not a guard.
        """
        if self.metric.guard is None:
            raise TypeError(f"{self.metric.name} has no guard")
        return self.metric.guard

    @property
    def can_pass(self) -> bool:
        return True

    def start(self) -> ThresholdState:
        return ThresholdState()

    def queries(self, canary: str, stable: str) -> Sequence[Query]:
        return [Query(source=self.guard.source, revision=canary)]

    def apply_answer(self, state: ThresholdState, values: Sequence[float | None]) -> ThresholdState:
        answered, (value,) = state.answered(), values
        if value is None:
            return replace(answered, value=None)
        failures = state.failures + self.guard.is_bad(value)
        return replace(answered, value=value, intervals=state.intervals + 1, failures=failures)

    def verdict(self, state: ThresholdState) -> Outcome:
        if state.failures > self.guard.limit:
            return Outcome.FAIL
        if state.problem or state.value is None or self.guard.is_bad(state.value):
            return Outcome.UNDECIDED
        return Outcome.PASS

    def message(self, state: ThresholdState) -> str:
        name = self.metric.name
        if state.problem:
            return f"{name}: {state.problem}"
        if state.value is None:
            return f"{name}: no value{'' if state.intervals else ' yet'}"
        return (
            f"{name}: {state.value:g}, out of bounds in {state.failures} of {state.intervals} intervals"
            f" ({self.guard.limit} allowed)"
        )

    def to_status(self, state: ThresholdState) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "looks": state.intervals,  # named as in the first release
            "failures": state.failures,
            "failureLimit": self.guard.limit,
        }
        if state.value is not None:
            entry["value"] = state.value
        return entry | outage_to_status(state)

    def from_status(self, entry: Body) -> ThresholdState:
        return ThresholdState(
            value=entry.get("value"),
            intervals=entry["looks"],
            failures=entry["failures"],
            **outage_from_status(entry),
        )
