"""A model converted to ONNX answers as the original does, or is refused with the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from model_server.domain.features import Feature, Metadata
from model_server.errors import AccelerationRefused
from model_server.inputs.selection import select_adapter
from model_server.runtimes import accelerated
from model_server.runtimes.sklearn import Estimator

WINE = load_wine()
DIABETES = load_diabetes()
THIRDS = np.digitize(DIABETES.target, np.quantile(DIABETES.target, [1 / 3, 2 / 3]))


def metadata(rows):
    low, high = rows.min(axis=0), rows.max(axis=0)
    return Metadata(
        input_features=tuple(Feature(name=f"x{i}", range=(float(low[i]), float(high[i]))) for i in range(len(low)))
    )


def speed_up(estimator, rows):
    about, model = metadata(rows), Estimator(estimator)
    adapter = select_adapter(about, model.signature)
    return accelerated.accelerate(model, adapter, about, threads=1), adapter.name


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


def with_holes(estimator):
    """Speed up a model of rows with missing values, in which they mean something."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    labels = (rows[:, 0] > rows[:, 1]).astype(int)
    rows[rng.random(rows.shape) < 0.3] = np.nan
    model = Estimator(estimator.fit(rows, labels))
    about = Metadata(input_features=(Feature(name="a", nullable=True), Feature(name="b", nullable=True)))
    return accelerated.accelerate(model, select_adapter(about, model.signature), about, threads=1), model, rows


def test_a_graph_that_takes_missing_values_for_others_is_refused():
    with pytest.raises(AccelerationRefused, match="another label for"):
        with_holes(DecisionTreeClassifier(random_state=0))


def test_a_graph_is_compared_on_missing_values_too():
    graph, model, rows = with_holes(make_pipeline(SimpleImputer(), LogisticRegression()))
    expected = model.predict({"m": rows}, probabilities=False)["predict"].tolist()
    assert graph.predict({"m": rows}, probabilities=False)["predict"].tolist() == expected


def test_a_model_that_takes_no_missing_values_cannot_have_nullable_features():
    about = Metadata(input_features=(Feature(name="a", nullable=True),))
    model = Estimator(Ridge().fit(DIABETES.data[:, :1], DIABETES.target))
    with pytest.raises(AccelerationRefused, match="allows: Input X contains NaN"):
        accelerated.accelerate(model, select_adapter(about, model.signature), about, threads=1)


class Own(ClassifierMixin, BaseEstimator):
    def fit(self, rows, labels):
        self.classes_ = np.unique(labels)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        return np.full(len(rows), self.classes_[0])


def lightgbm_booster(objective, rows, target, **parameters):
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("onnxmltools")
    from model_server.runtimes.lightgbm import Booster

    given = {"objective": objective, "verbose": -1, "num_threads": 1, "seed": 1, **parameters}
    names = [f"column {number}" for number in range(rows.shape[1])]
    return Booster(lightgbm.train(given, lightgbm.Dataset(rows, target, feature_name=names), 20), 1)


def xgboost_booster(objective, rows, target, **parameters):
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    from model_server.runtimes.xgboost import Booster

    names = [f"column {number}" for number in range(rows.shape[1])]
    given = {"objective": objective, "nthread": 1, "seed": 1, **parameters}
    return Booster(xgboost.train(given, xgboost.DMatrix(rows, target, feature_names=names), 20))


@pytest.mark.parametrize(
    ("make", "objective", "target", "parameters"),
    [
        pytest.param(lightgbm_booster, "regression", DIABETES.target, {}, id="LightGBM, numbers"),
        pytest.param(lightgbm_booster, "binary", DIABETES.target > 140, {}, id="LightGBM, one of two"),
        pytest.param(lightgbm_booster, "multiclass", THIRDS, {"num_class": 3}, id="LightGBM, one of three"),
        pytest.param(xgboost_booster, "reg:squarederror", DIABETES.target, {}, id="XGBoost, numbers"),
        pytest.param(xgboost_booster, "binary:logistic", DIABETES.target > 140, {}, id="XGBoost, one of two"),
        pytest.param(xgboost_booster, "multi:softprob", THIRDS, {"num_class": 3}, id="XGBoost, one of three"),
        pytest.param(xgboost_booster, "multi:softmax", THIRDS, {"num_class": 3}, id="XGBoost, a label of three"),
    ],
)
def test_a_booster_answers_within_the_tolerance(make, objective, target, parameters):
    model, about = make(objective, DIABETES.data, target, **parameters), metadata(DIABETES.data)
    adapter = select_adapter(Metadata(input_features=named_as_in(model, about)), model.signature)
    graph = accelerated.accelerate(model, adapter, about, threads=1)
    rows = {adapter.name: DIABETES.data}
    expected = model.predict(rows, probabilities=False)["predict"]
    found = graph.predict(rows, probabilities=False)["predict"]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def named_as_in(model, about):
    return tuple(
        Feature(name=name, range=one.range)
        for name, one in zip(model.signature.feature_names, about.input_features, strict=True)
    )


@pytest.mark.parametrize(
    ("library", "kind"), [("lightgbm", "LGBMClassifier"), ("xgboost", "XGBClassifier"), ("xgboost", "XGBRegressor")]
)
def test_a_wrapper_answers_the_same_and_a_classifier_in_a_pipeline_too(library, kind):
    module = pytest.importorskip(library)
    pytest.importorskip("onnxmltools")
    quiet = {"verbose": -1} if library == "lightgbm" else {}
    is_classifier = "Classifier" in kind
    wrapper = getattr(module, kind)(n_estimators=20, n_jobs=1, **quiet)
    # Behind a scaler in single precision a row on a tree's border falls to its other side: numbers jump there.
    estimator = make_pipeline(StandardScaler(), wrapper) if is_classifier else wrapper
    target = THIRDS if is_classifier else DIABETES.target
    estimator.fit(DIABETES.data, target)
    model, about = Estimator(estimator), metadata(DIABETES.data)
    adapter = select_adapter(about, model.signature)
    graph = accelerated.Accelerated(model, adapter, accelerated.convert(model, 10), 1)
    rows = {adapter.name: DIABETES.data}
    expected, found = (one.predict(rows, probabilities=True) for one in (model, graph))
    assert np.mean(np.isclose(found["predict"], expected["predict"], rtol=1e-4)) > 0.99
    assert found.keys() == expected.keys()


def test_what_no_converter_knows_is_refused():
    with pytest.raises(AccelerationRefused, match="only models of scikit-learn, LightGBM and XGBoost"):
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
    adapter = select_adapter(metadata(rows), original.signature)
    graph = accelerated.Accelerated(original, adapter, accelerated.convert(Estimator(wrong), rows.shape[1]), 1)
    with pytest.raises(AccelerationRefused, match=message):
        accelerated.compare(original, graph, {adapter.name: rows})


def test_the_server_serves_the_graph(serve, wine):
    server = serve(wine.uri, trusted=True, accelerate="onnx").wait_ready()
    answer = server.client.post("/predict", json={"instances": wine.rows.tolist()}).json()
    assert answer["predictions"] == wine.model.predict(wine.rows).tolist()
    assert '"message":"accelerated"' in Path(server.log).read_text()


def test_what_is_no_scikit_learn_model_is_refused(serve, iris_onnx):
    server = serve(iris_onnx.uri, accelerate="onnx")
    assert server.wait_exit() == 65
    assert server.termination()["reason"] == "AccelerationRefused"
