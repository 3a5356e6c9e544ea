"""Fits a `Calibration` to labelled rows with scikit-learn; `calibrate.py` calls it, and no server. Pure.

Two monotone curves are tried, as in scikit-learn's `CalibratedClassifierCV`: isotonic regression, which takes any
shape and needs many rows, and Platt's logistic curve, which needs few. Each is fitted to four fifths of the rows and
judged by the rest, five times; the one with the smaller squared error (Brier score) there is fitted to all rows.
https://scikit-learn.org/stable/modules/calibration.html

Of two classes each has a curve of its own: both curves keep the mean of their rows, so that accuracy, precision and the
expected number of misses of the reference come out as they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_server.domain.calibration import LEAST, Calibration, CalibrationTable, Label, log_odds
from model_server.domain.tensors import Array
from model_server.errors import DatasetInvalid

#: With fewer rows an estimate is wider than what anybody would call a change.
FEWEST_ROWS = 200
#: A class that is predicted less often has the mean of its rows for all probabilities.
FEWEST_OF_CLASS = 50
_FOLDS = 5
_SEED = 7
#: Most points of a table; a logistic curve has as many, where the rows are.
_POINTS = 64
#: Bins that the calibration error is measured in, of equal counts.
_BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted curve: its values anywhere, and the points that it is made of, () for one without corners."""

    values: Callable[[Array], Array]
    corners: Array


Fit = Callable[[Array, Array], Curve]


def fit(answers: Array, probabilities: Array, is_right: Array, classes: Sequence[Label]) -> Calibration:
    """Measure how often predictions are right at each probability.

    Args:
        answers: the predicted classes, shape (rows,).
        probabilities: those of the predicted classes (`calibration.confidences`), shape (rows,).
        is_right: 1 where the prediction is the label, else 0; shape (rows,).
        classes: the model's, in the order of its probabilities.

    Raises:
        DatasetInvalid: there are too few rows, or all have the same probability.
    """
    rows = len(is_right)
    if rows < FEWEST_ROWS:
        raise DatasetInvalid(
            f"the data set has {rows} rows, and a calibration needs {FEWEST_ROWS}", hint="Take more labelled rows."
        )
    if np.ptp(probabilities) == 0:
        raise DatasetInvalid(
            f"the model gives every row the probability {probabilities[0]:g}, which says nothing about single rows",
            hint="Leave monitoring.estimatedQuality out; send labels to /feedback.",
        )
    # What a table cannot tell apart, no curve may.
    probabilities = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    unseen, fitted, tables = np.empty(rows), np.empty(rows), []
    for label in classes if len(classes) == 2 else [None]:
        own = np.full(rows, True) if label is None else answers == label
        table, unseen[own] = _fit_table(probabilities[own], is_right[own], label)
        tables.append(table)
        fitted[own] = table.shares_at(probabilities[own])
    dispersion = np.mean((unseen - is_right) ** 2) / np.mean(fitted * (1 - fitted))
    return Calibration(
        rows=rows,
        classes=tuple(classes),
        tables=tuple(tables),
        error=calibration_error(unseen, is_right),
        raw_error=calibration_error(probabilities, is_right),
        dispersion=max(float(dispersion), 1.0),
    )


def _fit_table(probabilities: Array, is_right: Array, label: Label | None) -> tuple[CalibrationTable, Array]:
    """The table of some rows, and for each of them what a curve says that was fitted to others."""
    rows = len(is_right)
    # Of so many rows one more may be the first exception: no probability is 0 or 1.
    least = 1 / (rows + 2)
    if rows < FEWEST_OF_CLASS or np.ptp(probabilities) == 0:
        share = float((is_right.sum() + 1) / (rows + 2))
        table = CalibrationTable(prediction=label, probabilities=(0.5,), shares=(share,), method="mean")
        return table, np.full(rows, share)
    unseen = {name: _cross_fitted(curve, probabilities, is_right) for name, curve in _FITS.items()}
    method = min(unseen, key=lambda name: float(np.mean((unseen[name] - is_right) ** 2)))
    curve = _FITS[method](probabilities, is_right)
    points = curve.corners
    if not 0 < len(points) <= _POINTS:
        points = np.unique(np.quantile(probabilities, np.linspace(0, 1, _POINTS)))
    # Rounding may turn two equal values into a step down.
    shares = np.maximum.accumulate(np.clip(curve.values(points), least, 1 - least))
    table = CalibrationTable(
        prediction=label, probabilities=tuple(points.tolist()), shares=tuple(shares.tolist()), method=method
    )
    return table, unseen[method]


def calibration_error(probabilities: Array, is_right: Array) -> float:
    """Mean distance between probability and share of right rows over bins of equal counts (ECE)."""
    order = np.argsort(probabilities, kind="stable")
    bins = zip(np.array_split(probabilities[order], _BINS), np.array_split(is_right[order], _BINS), strict=True)
    return float(sum(abs(said.sum() - found.sum()) for said, found in bins) / len(is_right))


def _isotonic(probabilities: Array, is_right: Array) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(probabilities, is_right)
    return Curve(lambda values: np.asarray(fitted.predict(values), dtype=np.float64), fitted.X_thresholds_)


def _platt(probabilities: Array, is_right: Array) -> Curve:
    from sklearn.linear_model import LogisticRegression

    mean = Curve(lambda values: np.full(len(values), float(is_right.mean())), np.empty(0))
    if len(np.unique(is_right)) < 2:
        return mean
    fitted = LogisticRegression().fit(_column(probabilities), is_right)
    if fitted.coef_[0, 0] < 0:
        # The surer, the more often wrong: no monotone curve says more than the mean.
        return mean
    return Curve(lambda values: np.asarray(fitted.predict_proba(_column(values))[:, 1], dtype=np.float64), np.empty(0))


_FITS: dict[str, Fit] = {"isotonic": _isotonic, "platt": _platt}


def _column(probabilities: Array) -> Array:
    column: Array = log_odds(probabilities).reshape(-1, 1)
    return column


def _cross_fitted(curve: Fit, probabilities: Array, is_right: Array) -> Array:
    """For each row what a curve says that was fitted to other rows."""
    folds = np.array_split(np.random.default_rng(_SEED).permutation(len(is_right)), _FOLDS)
    found = np.empty(len(is_right))
    for fold in folds:
        others = np.ones(len(is_right), dtype=bool)
        others[fold] = False
        found[fold] = curve(probabilities[others], is_right[others]).values(probabilities[fold])
    return found
