"""The short way through linear models gives the library's answers bit by bit, or is not taken."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from model_server.runtimes.estimators import Estimator
from model_server.runtimes.linear import fast_path

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
NAMED = (IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]])


class Contrary(LogisticRegression):
    """Says the other thing."""

    def predict(self, X):  # noqa: N803 -- the library's name
        return 1 - super().predict(X)


def scaled(model):
    return make_pipeline(StandardScaler(), model)


KNOWN = [
    pytest.param(LogisticRegression(max_iter=500), IRIS, id="three classes"),
    pytest.param(scaled(LogisticRegression()), NAMED, id="three names, scaled"),
    pytest.param(scaled(LogisticRegression()), CANCER, id="two classes, scaled"),
    pytest.param(make_pipeline(StandardScaler(with_mean=False), RidgeClassifier()), CANCER, id="scaled, not centred"),
    pytest.param(SGDClassifier(random_state=0), IRIS, id="stochastic gradient"),
    pytest.param(LinearRegression(), DIABETES, id="numbers"),
    pytest.param(LinearRegression(), (DIABETES[0], np.c_[DIABETES[1], DIABETES[1]]), id="two numbers a row"),
    pytest.param(scaled(Ridge()), DIABETES, id="numbers, scaled"),
]


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize(("model", "data"), KNOWN)
def test_answers_are_the_librarys(model, data, kind) -> None:
    rows = data[0].astype(kind)
    model.fit(*data)
    way = fast_path(model)
    assert way is not None
    for some in (rows[:1], rows[:7], rows):
        assert way.accepts(some)
        assert np.array_equal(way.predict(some), model.predict(some))
        if isinstance(model, LogisticRegression):
            assert np.array_equal(way.probabilities(some), model.predict_proba(some))


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(Contrary(max_iter=500), IRIS, id="a subclass that does something else"),
        pytest.param(make_pipeline(MinMaxScaler(), LogisticRegression()), IRIS, id="a step that is not known"),
        pytest.param(RandomForestClassifier(3, random_state=0), IRIS, id="a model that is not known"),
    ],
)
def test_what_is_not_known_is_left_to_the_library(model, data) -> None:
    assert fast_path(model.fit(*data)) is None


def test_a_model_that_was_changed_is_left_to_the_library() -> None:
    model = Lasso().fit(*DIABETES)
    model.predict = lambda rows: np.zeros(len(rows))
    assert fast_path(model) is None


def test_a_model_that_is_not_fitted_is_left_to_the_library() -> None:
    assert fast_path(LogisticRegression()) is None


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.array([[1.0, np.nan, 3.0, 4.0]]), id="a missing number"),
        pytest.param(np.array([[1.0, np.inf, 3.0, 4.0]]), id="an infinite number"),
        pytest.param(np.zeros((1, 3)), id="too few columns"),
        pytest.param(np.zeros((0, 4)), id="no rows"),
    ],
)
def test_what_the_library_refuses_it_refuses_itself(rows) -> None:
    model = LogisticRegression(max_iter=500).fit(*IRIS)
    with pytest.raises(ValueError, match=r"NaN|infinity|features|sample") as theirs:
        model.predict(rows)
    with pytest.raises(ValueError, match=r"NaN|infinity|features|sample") as ours:
        Estimator(model).predict({"inputs": rows}, probabilities=False)
    assert str(ours.value) == str(theirs.value)


def test_whole_numbers_are_predicted_by_the_library() -> None:
    model = LogisticRegression(max_iter=500).fit(*IRIS)
    rows = np.array([[5, 3, 1, 0], [6, 3, 5, 2]])
    found = Estimator(model).predict({"inputs": rows}, probabilities=True)
    assert np.array_equal(found["predict"], model.predict(rows))
    assert np.array_equal(found["predict_proba"], model.predict_proba(rows))
