"""XGBoost: models saved as JSON or UBJ, by the Booster or by the scikit-learn wrapper."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xgboost

from model_server.domain.explanations import ExplanationKind
from model_server.domain.model import Signature
from model_server.domain.numbers import NumberKind, Numbers
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import ArtifactCorrupt
from model_server.package.reader import Package
from model_server.runtimes.estimators import Estimator
from model_server.runtimes.explaining.direct import DirectExplainer, as_scores, by_output, has_trees
from model_server.runtimes.tables import as_matrix, as_table, require_pandas, trained_columns, xgboost_categories

#: Objectives of classifiers, by what their models answer.
_KINDS: dict[str, NumberKind] = {
    "binary:logistic": "probabilities",
    "reg:logistic": "probabilities",
    "multi:softprob": "probabilities",
    "binary:logitraw": "scores",
    "binary:hinge": "places",
    "multi:softmax": "places",
}


def load(package: Package, *, threads: int) -> Estimator | Booster:
    """A wrapper's file becomes an estimator again, with labels; a Booster's stays a Booster, with raw scores."""
    (path,) = package.artifacts
    booster = xgboost.Booster({"nthread": threads})
    try:
        booster.load_model(path)
    except (xgboost.core.XGBoostError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise ArtifactCorrupt(f"{path.name} is no XGBoost model: {text}") from None
    kind = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
    wrapper = {"classifier": xgboost.XGBClassifier, "regressor": xgboost.XGBRegressor}.get(kind)
    if wrapper is None:
        return Booster(booster)
    estimator = wrapper(n_jobs=threads)
    estimator.load_model(path)
    return Estimator(estimator)


class Booster:
    """Calls the Booster itself, which predicts scores: probabilities where its objective gives them."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()
    described = "XGBoost's Booster"

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self.numbers = _numbers(booster)
        self._names = booster.feature_names
        self._categories = xgboost_categories(booster)
        if self._categories:
            require_pandas("was trained with pandas categories")
        self.signature = Signature(
            feature_names=tuple(self._names or ()),
            feature_count=booster.num_features(),
            as_columns=bool(self._categories),
            columns=trained_columns(booster.num_features(), self._categories),
        )

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers."""
        from model_server.runtimes.onnx_conversion import booster_to_onnx

        return booster_to_onnx(self._booster, count)

    def explainer(self) -> DirectExplainer | None:
        """TreeSHAP by XGBoost, on the scale before the objective's link; None without trees."""
        if not has_trees(self._booster):
            return None
        count = self._booster.num_features()
        return DirectExplainer(
            kind=ExplanationKind(method="TreeSHAP", scale="raw score"),
            form=self._table,
            contribute=lambda table: by_output(self._booster.predict(table, pred_contribs=True), count),
            scores=lambda table: as_scores(self._booster.predict(table, output_margin=True)),
            reference_rows=lambda _: None,
        )

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        return {"predict": np.asarray(self._booster.predict(self._table(inputs)))}

    def _table(self, inputs: Inputs) -> Any:
        if self._categories:
            return xgboost.DMatrix(as_table(inputs, self._categories), enable_categorical=True)
        return xgboost.DMatrix(as_matrix(inputs), feature_names=self._names)


def _numbers(booster: Any) -> Numbers:
    learner = json.loads(booster.save_config())["learner"]
    kind = _KINDS.get(learner["objective"]["name"], "unknown")
    count = max(int(learner["learner_model_param"]["num_class"]), 1)
    return Numbers(kind, 2 if kind == "places" and count == 1 else count)
