"""A model converted to ONNX answers as the original does, or is refused with the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model_server.errors import AccelerationRefused
from model_server.inputs.choosing import choose_layout
from model_server.package.metadata import Feature, Metadata
from model_server.runtimes import accelerated
from model_server.runtimes.sklearn import Estimator

WINE = load_wine()
DIABETES = load_diabetes()


def metadata(rows):
    low, high = rows.min(axis=0), rows.max(axis=0)
    return Metadata(
        input_features=tuple(Feature(name=f"x{i}", range=(float(low[i]), float(high[i]))) for i in range(len(low)))
    )


def speed_up(estimator, rows):
    about, model = metadata(rows), Estimator(estimator)
    layout = choose_layout(about, model.signature)
    return accelerated.accelerate(model, layout, about, threads=1), layout.name


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), id="a pipeline"),
        pytest.param(RandomForestClassifier(50, random_state=1), id="a forest"),
    ],
)
@pytest.mark.parametrize(
    "labels", [pytest.param(WINE.target, id="numbers"), pytest.param(WINE.target_names[WINE.target], id="names")]
)
def test_a_classifier_answers_the_same(estimator, labels):
    estimator.fit(WINE.data, labels)
    graph, name = speed_up(estimator, WINE.data)
    outputs = graph.predict({name: WINE.data}, probabilities=True)
    assert outputs["predict"].tolist() == estimator.predict(WINE.data).tolist()
    assert np.allclose(outputs["predict_proba"], estimator.predict_proba(WINE.data), atol=1e-4)


@pytest.mark.parametrize("estimator", [Ridge(), RandomForestRegressor(30, random_state=1)])
def test_a_regressor_answers_within_the_tolerance(estimator):
    estimator.fit(DIABETES.data, DIABETES.target)
    graph, name = speed_up(estimator, DIABETES.data)
    outputs = graph.predict({name: DIABETES.data}, probabilities=False)
    assert outputs["predict"] == pytest.approx(estimator.predict(DIABETES.data), rel=1e-4)


class Own(ClassifierMixin, BaseEstimator):
    def fit(self, rows, labels):
        self.classes_ = np.unique(labels)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        return np.full(len(rows), self.classes_[0])


def test_what_no_converter_knows_is_refused():
    with pytest.raises(AccelerationRefused, match="Own cannot be converted"):
        speed_up(Own().fit(WINE.data, WINE.target), WINE.data)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param(np.roll(WINE.target, 40), r"another label for \d+\.\d+% of 178 rows", id="other labels"),
        pytest.param(None, r"predict_proba differ by up to 0\.\d+, and 0\.0001 is allowed", id="other probabilities"),
    ],
)
def test_a_graph_that_differs_is_refused_with_the_numbers(other, message):
    rows = StandardScaler().fit_transform(WINE.data)
    original = Estimator(LogisticRegression().fit(rows, WINE.target))
    weaker = LogisticRegression(C=0.9 if other is None else 1.0)
    wrong = weaker.fit(rows, WINE.target if other is None else other)
    layout = choose_layout(metadata(rows), original.signature)
    graph = accelerated.Accelerated(original, layout, accelerated.convert(wrong, rows.shape[1]), 1)
    with pytest.raises(AccelerationRefused, match=message):
        accelerated.compare(original, graph, {layout.name: rows})


def test_the_server_serves_the_graph(serve, wine):
    server = serve(wine.uri, trusted=True, accelerate="onnx").wait_ready()
    answer = server.client.post("/predict", json={"instances": wine.rows.tolist()}).json()
    assert answer["predictions"] == wine.model.predict(wine.rows).tolist()
    assert '"message":"accelerated"' in Path(server.log).read_text()


def test_what_is_no_scikit_learn_model_is_refused(serve, iris_onnx):
    server = serve(iris_onnx.uri, accelerate="onnx")
    assert server.wait_exit() == 65
    assert server.termination()["reason"] == "AccelerationRefused"
