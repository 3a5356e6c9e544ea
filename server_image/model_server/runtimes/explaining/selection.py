"""Chooses how a model is explained, and checks that the explanation adds up; `loader.py` asks.

Models with TreeSHAP of their own and linear ones are explained exactly, everything else by a sampled estimate.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from model_server.domain.explanations import Explainer, Explanation, NotExplainable
from model_server.domain.features import Metadata
from model_server.domain.model import InputAdapter, Model
from model_server.domain.tensors import Array, Inputs
from model_server.errors import ModelServerError, first_line
from model_server.runtimes.explaining.direct import DirectExplainer
from model_server.runtimes.explaining.estimators import explain_estimator, rows_from
from model_server.runtimes.explaining.reference import Reference
from model_server.runtimes.explaining.sampling import sampled

log = logging.getLogger(__name__)

#: Of the largest output; the libraries of trees add up in single precision.
TOLERANCE = 1e-4
CHECKED_ROWS = 8


def make_explainer(model: Model, adapter: InputAdapter, metadata: Metadata, *, budget: int) -> Explainer:
    """The explainer of a loaded model. Raises NotExplainable."""
    try:
        return _explainer(model, adapter, metadata, budget)
    except NotExplainable:
        raise
    except (ModelServerError, Exception) as error:
        # The model's own code and its library may raise anything; predictions are served all the same.
        log.warning("explaining failed", exc_info=error)
        raise NotExplainable(f"explaining it failed with {type(error).__name__}: {first_line(error)}") from None


def _explainer(model: Model, adapter: InputAdapter, metadata: Metadata, budget: int) -> Explainer:
    if not adapter.features:
        raise NotExplainable("its inputs have no named features: list input_features in model.yaml")
    try:
        reference, without = Reference.of(adapter.features, metadata.reference_profile), None
    except NotExplainable as error:
        reference, without = None, error
    try:
        direct = _direct(model, adapter, reference)
        if direct is not None:
            return _checked(direct, model, _some_rows(direct, adapter))
    except NotExplainable:
        raise
    except Exception as error:
        if reference is None:
            raise
        log.warning("its library does not explain this model, which is sampled instead: %s", first_line(error))
    if reference is None:
        raise without or NotExplainable("it has no reference")
    outputs = metadata.output_features
    declared = (outputs[0].categories or ()) if outputs else ()
    return sampled(model, adapter, reference, budget=budget, declared_classes=declared)


def _direct(model: Model, adapter: InputAdapter, reference: Reference | None) -> DirectExplainer | None:
    # Imported only here: an image without scikit-learn has none of its estimators either.
    from model_server.runtimes.estimators import Estimator

    if isinstance(model, Estimator):
        return explain_estimator(model, adapter, reference)
    own = getattr(model, "explainer", None)
    explainer = None if own is None else own()
    return None if explainer is None else replace(explainer, reference_rows=rows_from(reference, adapter))


def _some_rows(explainer: DirectExplainer, adapter: InputAdapter) -> Inputs:
    """Rows to try it with: of the reference, or the one that the model is warmed with."""
    rows = explainer.reference_rows(CHECKED_ROWS) or adapter.example() or adapter.dummy_rows()
    if rows is None:
        raise NotExplainable("there is no row to try it with: give examples in model.yaml")
    return rows


def _checked(explainer: DirectExplainer, model: Model, rows: Inputs) -> DirectExplainer:
    """The explainer, if its contributions add up to what the library itself says. Raises NotExplainable."""
    scores = explainer.scores(explainer.form({name: array.copy() for name, array in rows.items()}))
    explanation = explained(explainer, {name: array.copy() for name, array in rows.items()})
    require_sum(explanation, scores)
    if explainer.kind.scale == "raw score" and not explainer.kind.classes and not model.probability_output:
        answer = next(iter(model.predict(rows, probabilities=False).values()))
        # A regression by squared error has no link: its score is the prediction.
        if (
            answer.dtype.kind == "f"
            and answer.size == scores.size
            and np.allclose(answer.reshape(scores.shape), scores)
        ):
            return replace(explainer, kind=replace(explainer.kind, scale="prediction"))
    return explainer


def require_sum(explanation: Explanation, scores: Array) -> None:
    """Raise NotExplainable unless the contributions add up to the model's scores, shape (rows, outputs)."""
    if scores.shape != explanation.output.shape:
        raise NotExplainable(
            f"its contributions are for {explanation.output.shape[1]} outputs, and it has {scores.shape[1]}"
        )
    off = np.abs(explanation.output - scores)
    allowed = TOLERANCE * max(1.0, float(np.abs(scores).max()))
    if not bool((off <= allowed).all()):
        raise NotExplainable(f"its contributions do not add up: the sum is off by {float(off.max()):.3g}")


def explained(explainer: Explainer, inputs: Inputs) -> Explanation:
    """All the steps at once."""
    for step in explainer.steps(inputs):
        if step is not None:
            return step
    raise AssertionError("the last step is the explanation")
