"""CatBoost: models saved by `save_model` in its own format (.cbm), with categories and texts among their features.

https://catboost.ai/docs/en/concepts/python-reference_catboost_save_model
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import catboost
import numpy as np

from model_server.domain.model import Signature, TrainedColumn
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.errors import ArtifactCorrupt, InvalidInput, LoadFailed
from model_server.inputs.adapter import preview
from model_server.package.reader import Package
from model_server.runtimes.tables import as_matrix

_CLASSES = frozenset(
    {"Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"}
)
#: Losses of single values whose predictions are not the raw formula's value for each of them, as the wrapper knows.
_RANKING = ("YetiRank", "PairLogit", "Query", "StochasticRank", "LambdaMart", "GroupQuantile", "StochasticFilter")


def load(package: Package, *, threads: int) -> CatBoost:
    """Read the file. Raises ArtifactCorrupt when it is cut short, LoadFailed for features that no row here can have."""
    (path,) = package.artifacts
    model = _read(path, catboost.CatBoost())
    if model.get_embedding_feature_indices():
        raise LoadFailed(
            f"{path.name} has features that are embeddings, which are not served here", hint="Serve it by a model.py."
        )
    loss = _loss_of(model)
    if loss in _CLASSES:
        return CatBoost(_read(path, catboost.CatBoostClassifier()), threads, is_classifier=True)
    if loss and not loss.startswith(_RANKING):
        # It knows which losses are of logarithms.
        model = _read(path, catboost.CatBoostRegressor())
    return CatBoost(model, threads, is_classifier=False)


def _read(path: Path, model: Any) -> Any:
    try:
        return model.load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        text = " ".join(str(error).split())[:300]
        raise ArtifactCorrupt(f"{path.name} is no CatBoost model: {text}") from None


def _loss_of(model: Any) -> str:
    """The loss that the model was trained with, "" where its file does not say."""
    try:
        found: str = json.loads(model.get_metadata()["params"])["loss_function"]["type"]
    except (KeyError, ValueError, TypeError):
        return ""
    return found


class CatBoost:
    """Calls the model: labels and probabilities of a classifier, numbers of all others."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, model: Any, threads: int, *, is_classifier: bool) -> None:
        self._model = model
        self._threads = threads
        names = tuple(map(str, model.feature_names_))
        # The library counts features that nobody has named.
        names = () if names == tuple(map(str, range(len(names)))) else names
        count = len(model.feature_names_)
        self._categories = frozenset(model.get_cat_feature_indices())
        texts = frozenset(model.get_text_feature_indices())
        self.signature = Signature(
            feature_names=names,
            feature_count=count,
            as_columns=bool(self._categories or texts),
            columns={place: _column(place, self._categories, texts) for place in range(count)},
        )
        if is_classifier:
            self.probability_output = "predict_proba"
            self.classes = tuple(np.asarray(model.classes_).tolist())

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        rows = self._rows(inputs) if self.signature.as_columns else as_matrix(inputs)
        outputs = {"predict": self._called(self._model.predict, rows)}
        if probabilities and self.probability_output:
            outputs[self.probability_output] = self._called(self._model.predict_proba, rows)
        return outputs

    def _called(self, method: Any, rows: Any) -> Array:
        try:
            found = np.asarray(method(rows, thread_count=self._threads))
        except catboost.CatBoostError as error:
            # All else has been checked at load: it is a value that the model cannot take.
            raise ValueError(" ".join(str(error).split())) from None
        # Labels of several classes come as a column.
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found

    def _rows(self, inputs: Inputs) -> list[list[Any]]:
        columns = [
            _category_values(name, array) if place in self._categories else array.tolist()
            for place, (name, array) in enumerate(inputs.items())
        ]
        return [list(row) for row in zip(*columns, strict=True)]


def _column(place: int, categories: frozenset[int], texts: frozenset[int]) -> TrainedColumn:
    if place in categories:
        # Text or whole numbers: its file has hashes only.
        return TrainedColumn("any", sample="")
    return TrainedColumn("string", sample="text") if place in texts else TrainedColumn(takes_null=True)


def _category_values(name: str, array: Array) -> list[Any]:
    """Categories as the library takes them: text, truth or whole numbers, which a column of numbers has as floats."""
    values = []
    for index, value in enumerate(array.reshape(-1).tolist()):
        is_whole = isinstance(value, float) and value.is_integer()
        if not is_whole and not isinstance(value, str | int):
            got = "null" if value is None or value != value else preview(value)
            raise InvalidInput.at(f"instances[{index}].{name}", f"expected text or a whole number, got {got}")
        values.append(int(value) if is_whole else value)
    return values
