"""An object with scikit-learn's interface as a model: what joblib, skops and XGBoost files turn into."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from model_server.domain.model import Signature
from model_server.domain.tensors import Inputs, Outputs
from model_server.runtimes.linear import fast_path
from model_server.runtimes.tables import (
    as_matrix,
    as_table,
    by_name,
    categories_of,
    real_feature_names,
    require_pandas,
    selects_columns,
    text_columns,
)


class Estimator:
    """Calls the estimator's own predict, or does its arithmetic where that was found to give the same (`linear`)."""

    runs_inline = True

    def __init__(self, estimator: Any, *, as_columns: bool = False) -> None:
        self.estimator = estimator
        names = real_feature_names(getattr(estimator, "feature_names_in_", ()))
        self._categories = by_name(categories_of(estimator), names)
        self._frames = as_columns or bool(self._categories) or selects_columns(estimator)
        if self._frames:
            require_pandas("was trained with pandas categories" if self._categories else "selects columns by name")
        self.signature = Signature(
            feature_names=names,
            feature_count=_feature_count(estimator),
            as_columns=self._frames,
            categories=self._categories,
            text=text_columns(estimator),
        )
        has_probabilities = hasattr(estimator, "predict_proba") and _is_one_output(estimator)
        self.probability_output = "predict_proba" if has_probabilities else ""
        self.classes = tuple(np.asarray(estimator.classes_).tolist()) if has_probabilities else ()
        # Rows are arrays on purpose: the names were checked when the request was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._linear = None if self._frames else fast_path(estimator)

    @property
    def described(self) -> str:
        """What it is, for messages."""
        return type(self.estimator).__name__

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers."""
        from model_server.runtimes.onnx_conversion import estimator_to_onnx

        return estimator_to_onnx(self.estimator, count)

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        rows, linear = self._rows(inputs), self._linear
        if linear is not None and not linear.accepts(rows):
            linear = None
        outputs = {"predict": np.asarray(self.estimator.predict(rows) if linear is None else linear.predict(rows))}
        if probabilities and self.probability_output:
            own = (
                self.estimator.predict_proba if linear is None or not linear.has_probabilities else linear.probabilities
            )
            outputs[self.probability_output] = np.asarray(own(rows))
        return outputs

    def _rows(self, inputs: Inputs) -> Any:
        if self._frames:
            return as_table(inputs, self._categories)
        if len(inputs) == 1:
            # What counts no features takes a text a row.
            (rows,) = inputs.values()
            return rows if self.signature.feature_count is None else as_matrix(inputs)
        if any(values.dtype == object for values in inputs.values()):
            return as_table(inputs, {})
        return as_matrix(inputs)


def _is_one_output(estimator: Any) -> bool:
    """Several outputs have classes and probabilities each, which no array of (rows, classes) holds."""
    return not isinstance(getattr(estimator, "classes_", []), list)


def _feature_count(estimator: Any) -> int | None:
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        return None
