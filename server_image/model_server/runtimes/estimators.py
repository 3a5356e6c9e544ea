"""An object with scikit-learn's interface as a model: what joblib, skops and XGBoost files turn into."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from model_server.errors import DependencyMissing
from model_server.runtimes.base import Signature
from model_server.runtimes.direct import direct_way
from model_server.tensors import Inputs, Outputs


class Estimator:
    """Calls the estimator's own predict, or does its arithmetic where that was found to give the same (`direct`)."""

    is_pure = True

    def __init__(self, estimator: Any, *, as_columns: bool = False) -> None:
        self.estimator = estimator
        self._frames = as_columns or _selects_columns(estimator)
        if self._frames and find_spec("pandas") is None:
            raise DependencyMissing(
                "the model selects columns by name, for which it needs pandas, which is not installed",
                hint="Install modeldeploy[server-pandas], or use an image that has it.",
            )
        names = getattr(estimator, "feature_names_in_", None)
        self.signature = Signature(
            feature_names=() if names is None else tuple(str(name) for name in names),
            feature_count=_feature_count(estimator),
            as_columns=self._frames,
        )
        has_probabilities = hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")
        self.probabilities = "predict_proba" if has_probabilities else ""
        self.classes = tuple(np.asarray(estimator.classes_).tolist()) if has_probabilities else ()
        # Rows are arrays on purpose: the names were checked when the request was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._direct = None if self._frames else direct_way(estimator)

    @property
    def described(self) -> str:
        """What it is, for messages."""
        return type(self.estimator).__name__

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers."""
        from model_server.runtimes.converting import estimator_to_onnx

        return estimator_to_onnx(self.estimator, count)

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        rows, way = self._rows(inputs), self._direct
        if way is not None and not way.accepts(rows):
            way = None
        outputs = {"predict": np.asarray(self.estimator.predict(rows) if way is None else way.predict(rows))}
        if probabilities and self.probabilities:
            own = self.estimator.predict_proba if way is None or not way.has_probabilities else way.probabilities
            outputs[self.probabilities] = np.asarray(own(rows))
        return outputs

    def _rows(self, inputs: Inputs) -> Any:
        if not self._frames and len(inputs) == 1:
            return next(iter(inputs.values()))
        import pandas as pd  # type: ignore[import-untyped]

        return pd.DataFrame(dict(inputs))


def _feature_count(estimator: Any) -> int | None:
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        return None


def _selects_columns(estimator: Any) -> bool:
    """True when some step picks columns by name, and so needs a table with names."""
    if any(isinstance(columns, str) or _all_text(columns) for _, _, columns in getattr(estimator, "transformers_", ())):
        return True
    return any(_selects_columns(step) for _, step in getattr(estimator, "steps", ()))


def _all_text(columns: Any) -> bool:
    return (
        isinstance(columns, list | tuple | np.ndarray)
        and len(columns) > 0
        and all(isinstance(name, str) for name in columns)
    )
