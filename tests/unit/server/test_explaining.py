"""Contributions are those of the libraries and of the closed form, and add up to what the model answers."""

from __future__ import annotations

import itertools
from functools import partial

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from model_server.domain.explanations import NotExplainable
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.inputs.selection import select_adapter
from model_server.runtimes.estimators import Estimator
from model_server.runtimes.explaining.reference import Reference
from model_server.runtimes.explaining.sampling import sampled
from model_server.runtimes.explaining.selection import explained, make_explainer, require_sum
from model_server.runtimes.lightgbm import Booster as LightGBM
from model_server.runtimes.xgboost import Booster as XGBoost

# Not on every platform: see the extra server-explain.
shap = pytest.importorskip("shap")

CANCER, DIABETES, IRIS, WINE = load_breast_cancer(), load_diabetes(), load_iris(), load_wine()
BUDGET = 2048


def described(rows, *, bins=10):
    """Metadata with a profile of these rows, in bins of about equal counts."""
    features, profile = [], {}
    for place, column in enumerate(rows.T):
        edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)))
        counts = np.histogram(column, edges)[0]
        features.append(Feature(name=f"x{place}"))
        profile[f"x{place}"] = ReferenceFeature(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
    return Metadata(input_features=tuple(features), reference_profile=profile)


def explain(model, rows, metadata=None, *, budget=BUDGET):
    """The explainer of a model, and its explanation of the rows."""
    metadata = described(rows) if metadata is None else metadata
    adapter = select_adapter(metadata, model.signature)
    explainer = make_explainer(model, adapter, metadata, budget=budget)
    return explainer, explained(explainer, adapter.from_instances(rows.tolist(), numbers_only=False))


def shap_values(model, rows):
    """What the shap package says: (rows, outputs, features)."""
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    # By its own code: XGBoost and LightGBM would be asked for theirs.
    explainer.model.model_type = "internal"
    values = np.asarray(explainer.shap_values(rows, check_additivity=False))
    return values[:, None] if values.ndim == 2 else np.moveaxis(values, 2, 1)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(xgboost.XGBClassifier(n_estimators=20), CANCER, id="XGBoost, two classes"),
        pytest.param(xgboost.XGBClassifier(n_estimators=10), IRIS, id="XGBoost, three classes"),
        pytest.param(xgboost.XGBRegressor(n_estimators=20), DIABETES, id="XGBoost, numbers"),
        pytest.param(lightgbm.LGBMClassifier(n_estimators=20, verbose=-1), CANCER, id="LightGBM, two classes"),
        pytest.param(lightgbm.LGBMClassifier(n_estimators=10, verbose=-1), WINE, id="LightGBM, three classes"),
        pytest.param(lightgbm.LGBMRegressor(n_estimators=20, verbose=-1), DIABETES, id="LightGBM, numbers"),
        pytest.param(RandomForestClassifier(20, random_state=0), WINE, id="a forest of three classes"),
        pytest.param(RandomForestRegressor(20, random_state=0), DIABETES, id="a forest of numbers"),
        pytest.param(GradientBoostingRegressor(n_estimators=20), DIABETES, id="boosted trees"),
        pytest.param(HistGradientBoostingRegressor(max_iter=20), DIABETES, id="boosted histograms"),
        pytest.param(HistGradientBoostingClassifier(max_iter=20), CANCER, id="boosted histograms of two classes"),
        pytest.param(GradientBoostingClassifier(n_estimators=20), CANCER, id="boosted trees of two classes"),
        pytest.param(DecisionTreeRegressor(max_depth=4), DIABETES, id="a tree"),
    ],
)
def test_trees_are_explained_as_by_the_shap_package(model, data):
    model.fit(data.data, data.target)
    rows = data.data[::7]
    _, found = explain(Estimator(model), rows, described(data.data))
    # The libraries of trees compute in single precision, whose digits are those of the output.
    scale = max(1, float(np.abs(found.output).max()))
    np.testing.assert_allclose(found.contributions / scale, shap_values(model, rows) / scale, atol=1e-6, rtol=0)


def test_a_forest_of_two_classes_is_explained_for_the_second():
    model = ExtraTreesClassifier(20, random_state=0).fit(CANCER.data, CANCER.target)
    explainer, found = explain(Estimator(model), CANCER.data[:20], described(CANCER.data))
    values = shap_values(model, CANCER.data[:20])
    np.testing.assert_allclose(found.contributions, values[:, 1:], atol=1e-6)
    np.testing.assert_allclose(found.output[:, 0], model.predict_proba(CANCER.data[:20])[:, 1], atol=1e-9)
    assert (explainer.kind.scale, explainer.kind.classes) == ("probability", (1,))


@pytest.mark.parametrize("data", [CANCER, IRIS, DIABETES], ids=["two classes", "three classes", "numbers"])
def test_a_booster_is_explained_as_its_wrapper(data, tmp_path):
    has_classes = data is not DIABETES
    model = (xgboost.XGBClassifier if has_classes else xgboost.XGBRegressor)(n_estimators=10).fit(
        data.data, data.target
    )
    explainer, found = explain(XGBoost(model.get_booster()), data.data[:20], described(data.data))
    _, expected = explain(Estimator(model), data.data[:20], described(data.data))
    np.testing.assert_allclose(found.contributions, expected.contributions)
    assert explainer.kind.scale == ("raw score" if has_classes else "prediction")


def test_the_text_of_lightgbm_is_explained(tmp_path):
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(CANCER.data, CANCER.target)
    booster = lightgbm.Booster(model_str=model.booster_.model_to_string())
    _, found = explain(LightGBM(booster, 1), CANCER.data[:20], described(CANCER.data))
    np.testing.assert_allclose(found.output[:, 0], model.predict(CANCER.data[:20], raw_score=True), rtol=1e-9)


def middle_means(metadata):
    reference = Reference.of(metadata.input_features, metadata.reference_profile)
    return np.array([weights @ values for values, weights in zip(reference.values, reference.weights, strict=True)])


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(LinearRegression(), DIABETES, id="least squares"),
        pytest.param(Ridge(), DIABETES, id="ridge"),
        pytest.param(LogisticRegression(max_iter=5000), IRIS, id="logistic, three classes"),
        pytest.param(RidgeClassifier(), CANCER, id="a classifier with scores"),
        pytest.param(LinearSVC(), IRIS, id="a support vector classifier"),
    ],
)
def test_a_linear_model_is_its_coefficients_times_the_distance_from_the_mean(model, data):
    model.fit(data.data, data.target)
    metadata = described(data.data)
    explainer, found = explain(Estimator(model), data.data[:20], metadata)
    expected = (data.data[:20] - middle_means(metadata))[:, None, :] * np.atleast_2d(model.coef_)
    np.testing.assert_allclose(found.contributions, expected, atol=1e-9)
    score = model.predict if data is DIABETES else model.decision_function
    np.testing.assert_allclose(found.output.squeeze(), score(data.data[:20]), atol=1e-9)
    assert (explainer.kind.method, found.errors) == ("linear", None)


def test_a_scaler_is_seen_through():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(CANCER.data, CANCER.target)
    metadata = described(CANCER.data)
    _, found = explain(Estimator(model), CANCER.data[:20], metadata)
    coefficients = model[-1].coef_[0] / model[0].scale_
    expected = (CANCER.data[:20] - middle_means(metadata)) * coefficients
    np.testing.assert_allclose(found.contributions[:, 0], expected, atol=1e-9)


def test_a_scaler_remembers_the_mean_where_the_package_has_no_profile():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(CANCER.data, CANCER.target)
    metadata = Metadata(input_features=described(CANCER.data).input_features)
    _, found = explain(Estimator(model), CANCER.data[:20], metadata)
    expected = model[-1].coef_[0] * (CANCER.data[:20] - CANCER.data.mean(axis=0)) / model[0].scale_
    np.testing.assert_allclose(found.contributions[:, 0], expected, atol=1e-9)


def test_columns_of_categories_are_added_up_by_their_feature():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=300), rng.integers(0, 3, 300)])
    target = rows[:, 0] + np.array([0.0, 2.0, -1.0])[rows[:, 1].astype(int)]
    encode = make_column_transformer((OneHotEncoder(), [1]), (StandardScaler(), [0]))
    model = make_pipeline(encode, LinearRegression()).fit(rows, target)
    profile = {
        "x0": ReferenceFeature(edges=(-1, 0, 1), counts=(1, 1)),
        "x1": ReferenceFeature(categories={"0": 1, "1": 1, "2": 2}),
    }
    metadata = Metadata(input_features=(Feature(name="x0"), Feature(name="x1")), reference_profile=profile)
    explainer, found = explain(Estimator(model), rows[:30], metadata)
    expected = np.array([0.0, 2.0, -1.0])[rows[:30, 1].astype(int)] - (0 + 2 - 1 - 1) / 4
    assert explainer.kind.method == "linear"
    np.testing.assert_allclose(found.contributions[:, 0], np.column_stack([rows[:30, 0], expected]), atol=1e-9)


def test_trees_behind_a_selection_are_explained_by_the_features_of_the_table():
    model = make_pipeline(SelectKBest(k=5), RandomForestRegressor(10, random_state=0))
    model.fit(DIABETES.data, DIABETES.target)
    chosen = model[0].get_support()
    _, found = explain(Estimator(model), DIABETES.data[:20], described(DIABETES.data))
    values = shap_values(model[-1], DIABETES.data[:20][:, chosen])
    np.testing.assert_allclose(found.contributions[:, :, chosen], values, atol=1e-6, rtol=1e-6)
    assert not found.contributions[:, :, ~chosen].any()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(make_pipeline(StandardScaler(), PCA(5), LinearRegression()), id="columns that are mixed"),
        pytest.param(PoissonRegressor(), id="a link"),
        pytest.param(GaussianProcessRegressor(RBF(0.1), alpha=1), id="no formula"),
    ],
)
def test_everything_else_is_estimated_and_adds_up(model):
    model.fit(DIABETES.data, DIABETES.target)
    explainer, found = explain(Estimator(model), DIABETES.data[:5], described(DIABETES.data))
    assert explainer.kind.method == "permutation sampling"
    np.testing.assert_allclose(
        found.base + found.contributions.sum(axis=2), model.predict(DIABETES.data[:5])[:, None], rtol=1e-9
    )


def exact(model, reference, row):
    """Shapley values by their definition, all coalitions and all rows of a small reference: (features, outputs)."""
    count = len(row)
    grid = np.array(list(itertools.product(*reference.values)), dtype=float)
    weights = np.prod(np.array(list(itertools.product(*reference.weights))), axis=1)
    worth = {}
    for size in range(count + 1):
        for known in itertools.combinations(range(count), size):
            rows = grid.copy()
            rows[:, list(known)] = row[list(known)]
            worth[known] = weights @ model.predict_proba(rows)
    found = []
    for place in range(count):
        others = [other for other in range(count) if other != place]
        total = 0.0
        for size in range(count):
            for known in itertools.combinations(others, size):
                share = 1 / (count * len(list(itertools.combinations(others, size))))
                total += share * (worth[tuple(sorted((*known, place)))] - worth[known])
        found.append(total)
    return np.array(found), worth[()]


def test_an_estimate_is_as_exact_as_it_says():
    model = KNeighborsClassifier(15).fit(IRIS.data, IRIS.target)
    metadata = described(IRIS.data, bins=4)
    reference = Reference.of(metadata.input_features, metadata.reference_profile)
    _, found = explain(Estimator(model), IRIS.data[::30], metadata)
    expected = np.stack([exact(model, reference, row)[0].T for row in IRIS.data[::30]])
    off, allowed = np.abs(found.contributions - expected), found.errors
    # 60 estimates of one seed: four standard errors are passed by one of 16 thousand.
    assert (off <= 4 * allowed + 1e-12).all()
    assert (off <= allowed).mean() > 0.5
    assert allowed.max() < 0.05


def test_an_estimate_is_the_same_each_time():
    model = KNeighborsClassifier(15).fit(IRIS.data, IRIS.target)
    first, second = (explain(Estimator(model), IRIS.data[:3], described(IRIS.data))[1] for _ in range(2))
    np.testing.assert_array_equal(first.contributions, second.contributions)


def test_a_larger_budget_has_smaller_errors():
    model = KNeighborsClassifier(15).fit(IRIS.data, IRIS.target)
    small, large = (explain(Estimator(model), IRIS.data[60:63], described(IRIS.data), budget=n)[1] for n in (256, 8192))
    assert large.errors.mean() < small.errors.mean() / 3


def without(metadata, *names):
    kept = {name: one for name, one in metadata.reference_profile.items() if name not in names}
    return Metadata(input_features=metadata.input_features, reference_profile=kept)


@pytest.mark.parametrize(
    ("model", "metadata", "budget", "sentence"),
    [
        pytest.param(
            KNeighborsClassifier(), without(described(IRIS.data), "x1", "x2"), BUDGET,
            "no reference_profile for x1, x2: describe the training data in model.yaml", id="no profile",
        ),
        pytest.param(
            LinearSVC(), without(described(IRIS.data), "x0"), BUDGET, "no reference_profile for x0", id="no mean",
        ),
        pytest.param(
            KNeighborsClassifier(), described(IRIS.data), 40, "4 features need 48 rows of the model", id="the budget",
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_explained_says_why(model, metadata, budget, sentence):
    model.fit(IRIS.data, IRIS.target)
    with pytest.raises(NotExplainable, match=sentence):
        explain(Estimator(model), IRIS.data[:2], metadata, budget=budget)


class Labels:
    """Answers with classes, and with nothing else."""

    def fit(self, rows, target):
        self.n_features_in_ = rows.shape[1]

    def predict(self, rows):
        return np.where(rows[:, 0] > 5, "large", "small")


def test_classes_without_scores_are_not_explained():
    model = Labels()
    model.fit(IRIS.data, IRIS.target)
    with pytest.raises(NotExplainable, match="which are classes, and gives neither"):
        explain(Estimator(model), IRIS.data[:2], described(IRIS.data))


def test_what_does_not_add_up_is_not_explained():
    model = xgboost.XGBRegressor(n_estimators=5).fit(DIABETES.data, DIABETES.target)
    _, found = explain(Estimator(model), DIABETES.data[:4], described(DIABETES.data))
    require_sum(found, model.predict(DIABETES.data[:4])[:, None])
    with pytest.raises(NotExplainable, match="do not add up: the sum is off by 1"):
        require_sum(found, model.predict(DIABETES.data[:4])[:, None] + 1)
    with pytest.raises(NotExplainable, match="for 1 outputs, and it has 2"):
        require_sum(found, np.zeros((4, 2)))


def test_a_model_whose_answers_are_changed_is_not_explained():
    model = xgboost.XGBRegressor(n_estimators=5).fit(DIABETES.data, DIABETES.target)
    model.predict = lambda rows, **_: np.zeros(len(rows))
    with pytest.raises(NotExplainable, match="do not add up"):
        explain(Estimator(model), DIABETES.data[:4], described(DIABETES.data))


LGBM = partial(lightgbm.LGBMRegressor, n_estimators=5, verbose=-1)
XGB = partial(xgboost.XGBRegressor, n_estimators=5)
SAMPLED = "permutation sampling"


@pytest.mark.parametrize(
    ("model", "method", "scale"),
    [
        pytest.param(XGB(booster="dart"), "TreeSHAP", "prediction", id="XGBoost with dropped trees"),
        pytest.param(XGB(booster="gblinear"), SAMPLED, "prediction", id="XGBoost's linear model"),
        pytest.param(xgboost.XGBRFRegressor(n_estimators=5), "TreeSHAP", "prediction", id="XGBoost's forest"),
        pytest.param(XGB(objective="reg:gamma"), "TreeSHAP", "raw score", id="XGBoost with a link"),
        pytest.param(LGBM(objective="poisson"), "TreeSHAP", "raw score", id="LightGBM with a link"),
        pytest.param(LGBM(linear_tree=True), SAMPLED, "prediction", id="lines in leaves"),
        pytest.param(HistGradientBoostingRegressor(max_iter=5, loss="poisson"), SAMPLED, "prediction", id="a link"),
        pytest.param(GridSearchCV(Ridge(), {"alpha": [0.1, 1]}), "linear", "prediction", id="a search"),
    ],
)
def test_unusual_models_add_up_to_what_they_answer(model, method, scale):
    model.fit(DIABETES.data, np.abs(DIABETES.target) + 1)
    explainer, found = explain(Estimator(model), DIABETES.data[:10], described(DIABETES.data))
    assert (explainer.kind.method, explainer.kind.scale) == (method, scale)
    answer = found.output if scale == "prediction" else np.exp(found.output)
    np.testing.assert_allclose(answer[:, 0], model.predict(DIABETES.data[:10]), rtol=1e-4)


def test_rounds_after_the_best_one_are_left_out():
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=2, learning_rate=0.5)
    model.fit(DIABETES.data[:300], DIABETES.target[:300], eval_set=[(DIABETES.data[300:], DIABETES.target[300:])])
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    _, found = explain(Estimator(model), DIABETES.data[:10], described(DIABETES.data))
    np.testing.assert_allclose(found.output[:, 0], model.predict(DIABETES.data[:10]), rtol=1e-5)


@pytest.mark.parametrize("kind", [LinearRegression, RandomForestRegressor])
def test_several_numbers_are_explained_side_by_side(kind):
    target = np.column_stack([DIABETES.target, DIABETES.data[:, 0]])
    model = kind().fit(DIABETES.data, target)
    _, found = explain(Estimator(model), DIABETES.data[:5], described(DIABETES.data))
    np.testing.assert_allclose(found.output, model.predict(DIABETES.data[:5]), rtol=1e-6)


def test_text_and_missing_values_are_sampled_and_explained():
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame({"plan": ["free", "paid", "free", "paid"] * 10, "spend": [1.0, np.nan, 3.0, 4.0] * 10})
    encode = make_column_transformer((OneHotEncoder(), ["plan"]), (SimpleImputer(), ["spend"]))
    model = make_pipeline(encode, LogisticRegression()).fit(rows, rows["plan"] == "paid")
    features = (
        Feature(name="plan", dtype="string", categories=("free", "paid")),
        Feature(name="spend", nullable=True),
    )
    profile = {
        "plan": ReferenceFeature(categories={"free": 1, "paid": 3}),
        "spend": ReferenceFeature(edges=(0, 2, 4), counts=(1, 1)),
    }
    metadata = Metadata(input_features=features, reference_profile=profile)
    wrapped = Estimator(model)
    adapter = select_adapter(metadata, wrapped.signature)
    explainer = make_explainer(wrapped, adapter, metadata, budget=BUDGET)
    inputs = adapter.from_instances([["free", None], ["paid", 1.0]], numbers_only=False)
    found = explained(explainer, inputs)
    table = pandas.DataFrame({"plan": ["free", "paid"], "spend": [np.nan, 1.0]})
    np.testing.assert_allclose(found.output[:, 0], model.decision_function(table), atol=1e-9)
    estimate = sampled(
        wrapped, adapter, Reference.of(features, metadata.reference_profile), budget=BUDGET, declared_classes=()
    )
    np.testing.assert_allclose(explained(estimate, inputs).output[:, 0], model.predict_proba(table)[:, 1], atol=1e-9)
