"""An object with scikit-learn's interface as a model: what joblib, skops and XGBoost files turn into."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np

from model_server.domain.model import Signature, TrainedColumn
from model_server.domain.numbers import Numbers
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.runtimes.inspection import (
    has_blanks_replaced,
    inspect,
    runs_own_code,
    takes_objects,
    takes_texts,
    text_sample,
)
from model_server.runtimes.linear import fast_path
from model_server.runtimes.outputs import as_array
from model_server.runtimes.tables import (
    as_matrix,
    as_table,
    as_table_of_objects,
    real_feature_names,
    require_pandas,
)

_Form: TypeAlias = Callable[[Inputs], Any]


class Estimator:
    """Calls the estimator's own predict, or does its arithmetic where that was found to give the same (`linear`)."""

    runs_inline = True

    def __init__(self, estimator: Any, *, as_columns: bool = False, names: tuple[str, ...] = ()) -> None:
        self.estimator = estimator
        given = names
        names = real_feature_names(getattr(estimator, "feature_names_in_", ()))
        count = _feature_count(estimator)
        if count is None and names:
            count = len(names)
        inspected = inspect(estimator, count, has_names=bool(names))
        self._categories = inspected.categories
        own_code = runs_own_code(estimator)
        takes_table = as_columns or inspected.needs_table or bool(self._categories) or (own_code and bool(names))
        if takes_table:
            require_pandas("was trained with pandas categories" if self._categories else "takes a table")
        texts = count is None and takes_texts(estimator)
        self.signature = Signature(
            # Those that were saved beside it say nothing of what it was trained with.
            feature_names=names or given,
            feature_count=count,
            as_columns=takes_table,
            may_use_names=own_code,
            columns={0: TrainedColumn("string", sample=text_sample(estimator))} if texts else inspected.columns,
            has_blanks_replaced=has_blanks_replaced(estimator),
            takes_texts=texts,
        )
        # Code of the package's own may want either, and only a call can tell: the one that worked is tried first.
        self._forms = self._possible_forms(takes_table=takes_table, is_unknown=own_code)
        has_probabilities = hasattr(estimator, "predict_proba") and _is_one_output(estimator)
        has_scores = not has_probabilities and hasattr(estimator, "decision_function")
        self.probability_output = "predict_proba" if has_probabilities else ""
        self.score_output = "decision_function" if has_scores else ""
        has_classes = has_probabilities or (has_scores and hasattr(estimator, "classes_"))
        self.classes = tuple(np.asarray(estimator.classes_).tolist()) if has_classes else ()
        self.numbers = _numbers(estimator)
        # Rows are arrays on purpose: the names were checked when the request was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._linear = None if takes_table else fast_path(estimator)

    @property
    def described(self) -> str:
        """What it is, for messages."""
        return type(self.estimator).__name__

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers."""
        from model_server.runtimes.onnx_conversion import estimator_to_onnx

        return estimator_to_onnx(self.estimator, count)

    def rows(self, inputs: Inputs) -> Any:
        """The inputs as the estimator's methods take them."""
        return self._forms[0](inputs)

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        forms = self._forms
        if len(forms) == 1:
            return self._call(forms[0](inputs), probabilities=probabilities)
        for form in forms:
            try:
                # Each its own rows: a form that fails may have written into them.
                rows = form({name: array.copy() for name, array in inputs.items()})
                outputs = self._call(rows, probabilities=probabilities)
            except Exception:
                if form is forms[-1]:
                    return self._call(forms[0](inputs), probabilities=probabilities)
            else:
                self._forms = [form, *(one for one in forms if one is not form)]
                return outputs
        raise AssertionError("there is a form")

    def _call(self, rows: Any, *, probabilities: bool) -> Outputs:
        linear = self._linear
        if linear is not None and not linear.accepts(rows):
            linear = None
        outputs = {"predict": as_array(self.estimator.predict(rows) if linear is None else linear.predict(rows))}
        if probabilities and self.probability_output:
            own = (
                self.estimator.predict_proba if linear is None or not linear.has_probabilities else linear.probabilities
            )
            outputs[self.probability_output] = as_array(own(rows))
        elif probabilities and self.score_output:
            outputs[self.score_output] = as_array(self.estimator.decision_function(rows))
        return outputs

    def _possible_forms(self, *, takes_table: bool, is_unknown: bool) -> list[_Form]:
        has_pandas = find_spec("pandas") is not None
        if self.signature.feature_count is None:
            is_decided = takes_objects(self.estimator) or self.signature.takes_texts or not has_pandas
            return [self._objects] if is_decided else [self._objects, self._objects_as_table]
        if not is_unknown or not has_pandas:
            return [self._table if takes_table else self._array]
        return [self._table, self._array] if takes_table else [self._array, self._table]

    def _table(self, inputs: Inputs) -> Any:
        return as_table(inputs, self._categories, self.signature.feature_names)

    def _array(self, inputs: Inputs) -> Any:
        if len(inputs) > 1 and any(values.dtype.kind == "M" for values in inputs.values()):
            return self._table(inputs)
        return as_matrix(inputs)

    def _objects(self, inputs: Inputs) -> Any:
        """What counts no features takes a row as it was sent: a text, an object, a list."""
        if len(inputs) > 1:
            return self._array(inputs)
        (rows,) = inputs.values()
        return rows.tolist() if rows.dtype == object else rows

    def _objects_as_table(self, inputs: Inputs) -> Any:
        rows: Array = next(iter(inputs.values()))
        if len(inputs) == 1 and rows.dtype == object and all(isinstance(row, dict) for row in rows):
            return as_table_of_objects(rows.tolist())
        return self._table(inputs)


def _is_one_output(estimator: Any) -> bool:
    """Several outputs have classes and probabilities each, which no array of (rows, classes) holds."""
    return not isinstance(getattr(estimator, "classes_", []), list)


def _numbers(estimator: Any) -> Numbers | None:
    """What a Booster of LightGBM answers, which is pickled as it is; None for what has scikit-learn's interface."""
    if type(estimator).__module__ != "lightgbm.basic":
        return None
    from model_server.runtimes.lightgbm import numbers_of

    return numbers_of(estimator)


def _feature_count(estimator: Any) -> int | None:
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        return None
