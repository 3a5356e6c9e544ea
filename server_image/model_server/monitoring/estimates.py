"""What quality to expect of answers whose calibrated probabilities are known and whose labels are not. Pure.

`estimated_quality.py` calls it. This is confidence-based performance estimation (CBPE): an answer that is right with
the probability p counts as a share p of a right answer and 1 - p of a wrong one; summed over answers that is the
expected confusion matrix, and the metrics are those of this matrix.
https://nannyml.readthedocs.io/en/stable/how_it_works/performance_estimation.html

The interval is that of what labels of these rows would show, in 95 % of cases: labels vary by p (1 - p) a row. The
table that says p was itself measured on a number of labelled rows, which adds the same variance again, scaled by the
two numbers of rows; both are multiplied by how much more labels vary than the table says. That a model can be wrong in
another way than in those rows is in no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_server.domain.calibration import Calibration
from model_server.domain.tensors import Array

#: Standard errors on each side of an interval that 95 % of values fall into.
Z = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric, and the interval that it is in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over answers: their number, that of the probabilities p that they are right, and that of p (1 - p)."""

    rows: float = 0.0
    right: float = 0.0
    variance: float = 0.0

    @classmethod
    def of(cls, probabilities: Array) -> Sums:
        """The sums of answers that are right with these probabilities."""
        spread = probabilities * (1 - probabilities)
        return cls(float(len(probabilities)), float(probabilities.sum()), float(spread.sum()))


def estimated_accuracy(answers: Sums, calibration: Calibration) -> dict[str, Estimate]:
    """The accuracy of any classifier."""
    growth = _growth(answers.rows, calibration)
    return {"accuracy": _estimate(answers.right / answers.rows, growth * answers.variance / answers.rows**2)}


def estimated_binary(positive: Sums, negative: Sums, calibration: Calibration) -> dict[str, Estimate]:
    """Metrics of two classes, of which the second is the positive one; those of nothing are left out.

    Args:
        positive: sums over the answers that are positive.
        negative: sums over those that are negative.
        calibration: what the probabilities were calibrated with.
    """
    rows = positive.rows + negative.rows
    growth = _growth(rows, calibration)
    hits, misses = positive.right, negative.rows - negative.right
    # Each metric is a ratio of sums over rows: its variance is that of the numerator less the ratio times the
    # denominator, over the square of the denominator (the delta method).
    both = positive.variance + negative.variance
    found = {"accuracy": _estimate((hits + negative.right) / rows, growth * both / rows**2)}
    if positive.rows:
        found["precision"] = _estimate(hits / positive.rows, growth * positive.variance / positive.rows**2)
    if hits + misses:
        recall = hits / (hits + misses)
        variance = (1 - recall) ** 2 * positive.variance + recall**2 * negative.variance
        found["recall"] = _estimate(recall, growth * variance / (hits + misses) ** 2)
    if size := positive.rows + hits + misses:
        f1 = 2 * hits / size
        variance = (2 - f1) ** 2 * positive.variance + f1**2 * negative.variance
        found["f1"] = _estimate(f1, growth * variance / size**2)
    return found


def _growth(rows: float, calibration: Calibration) -> float:
    return (1 + rows / calibration.rows) * calibration.dispersion


def _estimate(value: float, variance: float) -> Estimate:
    margin = Z * math.sqrt(variance)
    return Estimate(value, max(value - margin, 0.0), min(value + margin, 1.0))
