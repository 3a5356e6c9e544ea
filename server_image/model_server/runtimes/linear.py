"""Linear scikit-learn models without what scikit-learn checks at each call; `estimators` uses it.

A row through `LogisticRegression.predict` takes one product and, in scikit-learn 1.9, four tenths of a millisecond of
checks of its type, names and settings. A server has checked the request already. So for linear models, and pipelines
of `StandardScaler`s and one, the same arithmetic is done on the fitted arrays alone: the same operations in the same
order.

Nothing is taken on trust. When the model is loaded, answers of both ways are compared bit by bit, for several numbers
of rows and both float types; one bit of difference (another version of scikit-learn with another formula, an estimator
that was changed) and the library's own `predict` is called as for any other model. So it is for what the library would
refuse or convert: NaN, infinity, another number of columns, no rows, and everything that is no float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
_Step: TypeAlias = Callable[[Array], Array]

#: Rows that are compared at load: one, a few, and more than a batch usually has.
_SIZES = (1, 2, 7, 33)
_LINEAR = frozenset(
    {
        *("LogisticRegression", "Perceptron", "RidgeClassifier", "SGDClassifier"),
        *("ElasticNet", "Lasso", "LinearRegression", "Ridge", "SGDRegressor"),
    }
)
_SCALERS = frozenset({"StandardScaler"})


class LinearPredictor:
    """One model's arithmetic. `predict` and `probabilities` take what `accepts` says yes to: rows of these `types`."""

    def __init__(
        self,
        steps: Sequence[_Step],
        model: Any,
        probabilities: _Step | None = None,
        types: Sequence[type[np.floating[Any]]] = (np.float64, np.float32),
    ) -> None:
        self.types = frozenset(np.dtype(one) for one in types)
        self._steps = tuple(steps)
        self.count = int(model.coef_.shape[-1])
        self._coefficients = model.coef_.T if model.coef_.ndim == 2 else model.coef_
        self._intercept = model.intercept_
        self._classes = getattr(model, "classes_", None)
        self._probabilities = probabilities

    @property
    def has_probabilities(self) -> bool:
        """Whether the probabilities are known as well."""
        return self._probabilities is not None

    def accepts(self, rows: Any) -> bool:
        """Whether the library would predict these rows as they are."""
        return (
            isinstance(rows, np.ndarray)
            and rows.ndim == 2
            and rows.shape[1] == self.count
            and rows.shape[0] > 0
            and rows.dtype in self.types
            and bool(np.isfinite(rows).all())
        )

    def predict(self, rows: Array) -> Array:
        """The labels of a classifier, shape (rows,), or the numbers of a regression."""
        scores = self._scores(rows)
        if self._classes is None:
            return scores
        chosen: Array = self._classes[(scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)]
        return chosen

    def probabilities(self, rows: Array) -> Array:
        """The probability of each class, shape (rows, classes)."""
        if self._probabilities is None:
            raise TypeError("this model's probabilities are not known")
        return self._probabilities(self._scores(rows))

    def _scores(self, rows: Array) -> Array:
        for step in self._steps:
            rows = step(rows)
        scores: Array = rows @ self._coefficients + self._intercept
        is_column = self._classes is not None and scores.ndim == 2 and scores.shape[1] == 1
        return scores.reshape(-1) if is_column else scores


def fast_path(estimator: Any) -> LinearPredictor | None:
    """Return the arithmetic of a model if it is known and found to be the library's; None otherwise."""
    is_pipeline = _is(estimator, "sklearn.pipeline", {"Pipeline"})
    *before, model = [step for _, step in estimator.steps] if is_pipeline else [estimator]
    if not _is(model, "sklearn.linear_model", _LINEAR) or not all(
        _is(s, "sklearn.preprocessing", _SCALERS) for s in before
    ):
        return None
    formulas = (_softmax, _of_two, _softmax_of_two) if type(model).__name__ == "LogisticRegression" else (None,)
    try:
        steps = [_scaling(step) for step in before]
        ways = [
            LinearPredictor(steps, model, formula, types)
            for formula in formulas
            for types in ((np.float64, np.float32), (np.float64,))
        ]
    except AttributeError:
        return None  # not fitted
    return next((way for way in ways if _is_equal(way, estimator)), None)


def _is(thing: Any, package: str, names: frozenset[str] | set[str]) -> bool:
    """Whether a thing is of one of these classes itself; subclasses may do something else.

    By name: importing the classes takes longer than loading most models that are none of them.
    """
    kind = type(thing)
    return kind.__name__ in names and f"{kind.__module__}.".startswith(f"{package}.")


def _scaling(step: Any) -> _Step:
    mean, scale = (step.mean_ if step.with_mean else None), (step.scale_ if step.with_std else None)

    def scaled(rows: Array) -> Array:
        rows = rows.copy()
        if mean is not None:
            rows -= mean.astype(rows.dtype, copy=False)
        if scale is not None:
            rows /= scale.astype(rows.dtype, copy=False)
        return rows

    return scaled


def _is_equal(way: LinearPredictor, estimator: Any) -> bool:
    """Whether both ways answer alike; a formula that does not fit the scores' shape is another one's."""
    try:
        return all(_answers_alike(way, estimator, rows) for rows in _some_rows(way, estimator))
    except (AttributeError, TypeError, ValueError):
        return False  # sparse, or changed by hand: the library knows what to do


def _answers_alike(way: LinearPredictor, estimator: Any, rows: Array) -> bool:
    if not _same(way.predict(rows), estimator.predict(rows)):
        return False
    return not way.has_probabilities or _same(way.probabilities(rows), estimator.predict_proba(rows))


def _some_rows(way: LinearPredictor, estimator: Any) -> Iterator[Array]:
    """Rows as the model may meet them: spread around the training data's mean, where a scaler remembers it."""
    rng, scaler = np.random.default_rng(0), getattr(estimator, "steps", [("", None)])[0][1]
    mean, scale = getattr(scaler, "mean_", None), getattr(scaler, "scale_", None)
    for size in _SIZES:
        rows = rng.normal(size=(size, way.count))
        rows = rows * (1.0 if scale is None else scale) + (0.0 if mean is None else mean)
        for one in way.types:
            yield rows.astype(one)


def _same(one: Array, other: Any) -> bool:
    other = np.asarray(other)
    return one.dtype == other.dtype and np.array_equal(one, other)


def _softmax(scores: Array) -> Array:
    scores = scores - np.max(scores, axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.sum(scores, axis=1, keepdims=True)
    return scores


def _softmax_of_two(scores: Array) -> Array:
    return _softmax(np.column_stack([-scores, scores]))


def _of_two(scores: Array) -> Array:
    from scipy.special import expit  # type: ignore[import-untyped]

    second = expit(scores)
    return np.column_stack([1 - second, second])
