"""Quality that servers estimate without labels (`spec.monitoring.estimatedQuality`)."""

from collections.abc import Mapping
from dataclasses import dataclass

#: Why an estimate is not to be trusted, as servers say it in `modeldeploy_estimate_problem`.
ESTIMATE_PROBLEMS: Mapping[str, str] = {
    "NotCalibrated": "the package has no calibration: nobody has measured what the probabilities of this model mean",
    "InputsDrifted": "the inputs have drifted from those of the training data; modeldeploy_drifted has the features",
    "FewRows": "the servers have answered too few requests since their start",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedMetric:
    """An estimated metric with the interval that it is in with 95 %, and how many answers it is made of."""

    value: float
    low: float
    high: float
    rows: float

    @property
    def highest(self) -> float:
        """The value and three standard errors, of which an interval has 1.96 on each side."""
        return self.value + 3 / 1.96 * max(self.high - self.value, self.value - self.low)


def pooled(estimates: list[EstimatedMetric]) -> EstimatedMetric:
    """Return the mean of several pods' estimates by their rows, and of the ends of their intervals.

    The interval stays as wide as that of one pod: all of them share the error of one calibration.
    """
    rows = sum(one.rows for one in estimates)

    def mean(values: list[float]) -> float:
        return sum(value * one.rows for value, one in zip(values, estimates, strict=True)) / rows

    return EstimatedMetric(
        value=mean([one.value for one in estimates]),
        low=mean([one.low for one in estimates]),
        high=mean([one.high for one in estimates]),
        rows=rows,
    )
