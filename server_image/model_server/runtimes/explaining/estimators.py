"""Explainers of scikit-learn's estimators: linear models by their closed form, trees by TreeSHAP.

In a pipeline the contributions of the columns that reach the last step are added up by the columns of the table.
TreeSHAP: https://www.nature.com/articles/s42256-019-0138-9; linear: https://christophm.github.io/interpretable-ml-book/shapley.html
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_server.domain.explanations import ExplanationKind, NotExplainable, Scale
from model_server.domain.model import InputAdapter
from model_server.domain.tensors import Array, Inputs
from model_server.runtimes.estimators import Estimator
from model_server.runtimes.explaining.direct import Contributions, DirectExplainer, as_scores, by_output, has_trees
from model_server.runtimes.explaining.reference import Reference, without_profile
from model_server.runtimes.explaining.sources import sources_of

log = logging.getLogger(__name__)

#: Their scores are a weighted sum of the columns: scores and predictions of others pass a link.
_LINEAR = frozenset(
    {
        *("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge"),
        *("ARDRegression", "HuberRegressor", "SGDRegressor", "Lars", "LassoLars", "LinearSVR", "TheilSenRegressor"),
        *("LogisticRegression", "LogisticRegressionCV", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier"),
        *("Perceptron", "LinearSVC", "PassiveAggressiveClassifier", "PassiveAggressiveRegressor"),
    }
)
#: Their trees' answers are averaged: those of classifiers are probabilities.
_AVERAGED = frozenset(
    {
        *("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"),
        *("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor"),
    }
)
_BOOSTED = frozenset(
    {
        *("GradientBoostingClassifier", "GradientBoostingRegressor"),
        *("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"),
    }
)

#: Losses of boosted trees whose scores pass a link that only the library's own code applies.
_LINKED = frozenset({"poisson", "gamma"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """An estimator as what it does to the columns, and the model that predicts from what comes out."""

    transform: Callable[[Any], Any]
    last: Any
    sources: Sequence[int]
    steps: Sequence[Any]


def explain_estimator(model: Estimator, adapter: InputAdapter, reference: Reference | None) -> DirectExplainer | None:
    """The exact explainer of an estimator; None where none is known here. Raises NotExplainable without a reference."""
    split = _split(model.estimator, len(adapter.features))
    if split is None:
        return None
    last, name, library = split.last, type(split.last).__name__, type(split.last).__module__.partition(".")[0]
    is_sklearn = library == "sklearn"
    if is_sklearn and name in _LINEAR and getattr(last, "coef_", None) is not None:
        return _linear(model, split, adapter, reference)
    explained: tuple[str, Scale, Callable[[Any], Contributions], Callable[[Any], Array]] | None = None
    if library == "xgboost" and hasattr(last, "get_booster"):
        explained = _xgboost(last) if has_trees(last.get_booster()) else None
    elif library == "lightgbm" and hasattr(last, "booster_"):
        explained = _lightgbm(last)
    elif is_sklearn and name in _AVERAGED | _BOOSTED and getattr(last, "loss", "") not in _LINKED:
        explained = _trees(last, is_averaged=name in _AVERAGED)
    if explained is None:
        return None
    method, scale, contribute, scores = explained
    summed = _summed(contribute, split, len(adapter.features))
    return DirectExplainer(
        kind=ExplanationKind(method=method, scale=scale, classes=_explained_classes(last)),
        form=model.rows,
        contribute=summed,
        scores=lambda rows: scores(split.transform(rows)),
        reference_rows=rows_from(reference, adapter),
    )


def rows_from(reference: Reference | None, adapter: InputAdapter) -> Callable[[int], Inputs | None]:
    """What draws rows of a reference as the model's arrays."""

    def drawn(count: int) -> Inputs | None:
        return None if reference is None else adapter.from_instances(reference.rows(count), numbers_only=False)

    return drawn


def _split(estimator: Any, count: int) -> _Split | None:
    estimator = getattr(estimator, "best_estimator_", estimator)
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    *before, last = [step for step in steps if step is not None and step != "passthrough"]
    sources: list[int] | None = list(range(count))
    for step in before:
        sources = None if sources is None else sources_of(step, sources)
    if sources is None:
        return None

    def transform(rows: Any) -> Any:
        for step in before:
            rows = step.transform(rows)
        return rows.toarray() if hasattr(rows, "toarray") else rows

    return _Split(transform=transform, last=last, sources=sources, steps=before)


def _explained_classes(last: Any) -> tuple[object, ...]:
    """The classes that the outputs are about."""
    classes = tuple(np.asarray(getattr(last, "classes_", ())).tolist())
    return classes[1:] if len(classes) == 2 else classes


def _summed(contribute: Callable[[Any], Contributions], split: _Split, count: int) -> Callable[[Any], Contributions]:
    """The contributions of the table's columns."""
    if list(split.sources) == list(range(count)) and not split.steps:
        return contribute
    by_source = _by_source(split.sources, count)

    def summed(rows: Any) -> Contributions:
        base, contributions = contribute(split.transform(rows))
        return base, contributions @ by_source

    return summed


def _by_source(sources: Sequence[int], count: int) -> Array:
    """What adds columns up by their sources, shape (columns, features)."""
    matrix = np.zeros((len(sources), count))
    matrix[np.arange(len(sources)), list(sources)] = 1.0
    return matrix


def _linear(model: Estimator, split: _Split, adapter: InputAdapter, reference: Reference | None) -> DirectExplainer:
    last = split.last
    coefficients = np.atleast_2d(np.asarray(last.coef_, dtype=np.float64))
    intercept = np.atleast_1d(np.asarray(last.intercept_, dtype=np.float64))
    mean = _mean(model, split, adapter, reference)
    base = intercept + coefficients @ mean
    by_source = _by_source(split.sources, len(adapter.features))

    def contribute(rows: Any) -> Contributions:
        columns = np.asarray(split.transform(rows), dtype=np.float64)
        return base, ((columns - mean)[:, None, :] * coefficients[None]) @ by_source

    is_classifier = hasattr(last, "classes_")
    score = model.estimator.decision_function if is_classifier else model.estimator.predict
    scale: Scale = "raw score" if is_classifier else "prediction"
    return DirectExplainer(
        kind=ExplanationKind(method="linear", scale=scale, classes=_explained_classes(last)),
        form=model.rows,
        contribute=contribute,
        scores=lambda rows: as_scores(score(rows)),
        reference_rows=rows_from(reference, adapter),
    )


def _mean(model: Estimator, split: _Split, adapter: InputAdapter, reference: Reference | None) -> Array:
    """The mean of each column that reaches the linear model, over the reference or, scaled, over the training data."""
    if reference is None:
        scaler = split.steps[-1] if split.steps else None
        if type(scaler).__name__ == "StandardScaler" and getattr(scaler, "with_mean", False):
            return np.zeros(len(split.sources))
        raise NotExplainable(without_profile([feature.name for feature in adapter.features]))
    grid = adapter.from_instances(reference.grid(), numbers_only=False)
    columns = np.asarray(split.transform(model.rows(grid)), dtype=np.float64)
    weights = [reference.weights[source] for source in split.sources]
    return np.array([each @ columns[: len(each), place] for place, each in enumerate(weights)])


def _xgboost(last: Any) -> tuple[str, Scale, Callable[[Any], Contributions], Callable[[Any], Array]]:
    import xgboost

    booster = last.get_booster()
    count = booster.num_features()
    # As its own predict does.
    best = _best(last)
    until = (0, 0 if best is None else best + 1)

    def table(rows: Any) -> Any:
        # A table has names and types of its own.
        described = (
            {}
            if hasattr(rows, "columns")
            else {"feature_names": booster.feature_names, "feature_types": booster.feature_types}
        )
        return xgboost.DMatrix(rows, missing=last.missing, enable_categorical=True, nthread=last.n_jobs, **described)

    def contribute(rows: Any) -> Contributions:
        return by_output(booster.predict(table(rows), pred_contribs=True, iteration_range=until), count)

    return "TreeSHAP", "raw score", contribute, lambda rows: as_scores(last.predict(rows, output_margin=True))


def _best(last: Any) -> int | None:
    """The last boosting round that predictions use, None for all."""
    try:
        return int(last.best_iteration)
    except AttributeError:
        return None


def _lightgbm(last: Any) -> tuple[str, Scale, Callable[[Any], Contributions], Callable[[Any], Array]]:
    count = last.n_features_in_

    def contribute(rows: Any) -> Contributions:
        return by_output(last.predict(rows, pred_contrib=True), count)

    return "TreeSHAP", "raw score", contribute, lambda rows: as_scores(last.predict(rows, raw_score=True))


def _trees(
    last: Any, *, is_averaged: bool
) -> tuple[str, Scale, Callable[[Any], Contributions], Callable[[Any], Array]] | None:
    """TreeSHAP by the shap package; None without it, and for models that it does not take."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import shap

            explainer = shap.TreeExplainer(last, feature_perturbation="tree_path_dependent")
    except ModuleNotFoundError as error:
        log.warning("%s is not installed: install modeldeploy[server-explain] for exact explanations", error.name)
        return None
    except Exception as error:
        log.warning("shap does not explain this %s: %s", type(last).__name__, error)
        return None
    is_classifier = hasattr(last, "classes_")
    skipped = 1 if is_averaged and is_classifier and len(last.classes_) == 2 else 0

    def contribute(rows: Any) -> Contributions:
        values = np.asarray(explainer.shap_values(np.asarray(rows), check_additivity=False), dtype=np.float64)
        values = values[:, :, None] if values.ndim == 2 else values
        base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float64))
        return base[skipped:], np.moveaxis(values, 2, 1)[:, skipped:]

    if is_averaged and is_classifier:
        return "TreeSHAP", "probability", contribute, lambda rows: as_scores(last.predict_proba(rows)[:, skipped:])
    score = last.decision_function if is_classifier else last.predict
    scale: Scale = "raw score" if is_classifier else "prediction"
    return "TreeSHAP", scale, contribute, lambda rows: as_scores(score(rows))
