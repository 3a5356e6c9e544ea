"""LightGBM: models saved as text by `Booster.save_model`. Wrappers saved with joblib are scikit-learn's."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np

from model_server.domain.explanations import ExplanationKind
from model_server.domain.model import Signature
from model_server.domain.numbers import NumberKind, Numbers
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.errors import ArtifactCorrupt
from model_server.package.reader import Package
from model_server.runtimes.explaining.direct import DirectExplainer, as_scores, by_output
from model_server.runtimes.tables import (
    as_matrix,
    as_table,
    lightgbm_categories,
    real_feature_names,
    require_pandas,
    trained_columns,
)

#: Objectives of classifiers, by what their models answer; the probabilities of `multiclassova` do not add up to one.
_KINDS: dict[str, NumberKind] = {
    "binary": "probabilities",
    "cross_entropy": "probabilities",
    "multiclass": "probabilities",
    "multiclassova": "scores",
}


def load(package: Package, *, threads: int) -> Booster:
    """Read the text. Raises ArtifactCorrupt when it is cut short or something else."""
    (path,) = package.artifacts
    try:
        booster = lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise ArtifactCorrupt(f"{path.name} is no LightGBM model: {' '.join(str(error).split())[:300]}") from None
    return Booster(booster, threads)


def numbers_of(booster: Any) -> Numbers:
    """What a LightGBM Booster answers to a row, by its objective."""
    return Numbers(_KINDS.get(booster.params.get("objective", ""), "unknown"), booster.num_model_per_iteration())


class Booster:
    """Calls the Booster, which predicts scores: probabilities where its objective gives them."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()
    described = "LightGBM's Booster"

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster = booster
        self._threads = threads
        self.numbers = numbers_of(booster)
        names = tuple(booster.feature_name())
        self._categories = lightgbm_categories(booster)
        if self._categories:
            require_pandas("was trained with pandas categories")
        self.signature = Signature(
            feature_names=real_feature_names(names),
            feature_count=booster.num_feature(),
            as_columns=bool(self._categories),
            columns=trained_columns(booster.num_feature(), self._categories),
            has_blanks_replaced=True,
        )

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers."""
        from model_server.runtimes.onnx_conversion import booster_to_onnx

        return booster_to_onnx(self._booster, count)

    def explainer(self) -> DirectExplainer:
        """TreeSHAP by LightGBM, on the scale before the objective's link."""
        count = self._booster.num_feature()
        return DirectExplainer(
            kind=ExplanationKind(method="TreeSHAP", scale="raw score"),
            form=self._table,
            contribute=lambda rows: by_output(self._call(rows, pred_contrib=True), count),
            scores=lambda rows: as_scores(self._call(rows, raw_score=True)),
            reference_rows=lambda _: None,
        )

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        return {"predict": self._call(self._table(inputs))}

    def _table(self, inputs: Inputs) -> Any:
        return as_table(inputs, self._categories) if self._categories else as_matrix(inputs)

    def _call(self, rows: Any, **options: bool) -> Array:
        return np.asarray(self._booster.predict(rows, num_threads=self._threads, **options))
