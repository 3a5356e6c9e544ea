"""What the parts of a model know of its columns holds for the whole, however it is wrapped."""

from __future__ import annotations

import pickle

import cloudpickle
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MultiLabelBinarizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from model_server.errors import InvalidInput
from model_server.loader import load
from model_server.settings import read_settings

pd = pytest.importorskip("pandas")
RNG = np.random.default_rng(0)
COUNT = 240
NUMBERED = pd.DataFrame(
    {"age": RNG.normal(40, 10, COUNT), "store": pd.Categorical(RNG.choice([1, 2, 3], COUNT), categories=[1, 2, 3])}
)
NAMED = pd.DataFrame(
    {
        "age": RNG.normal(40, 10, COUNT),
        "plan": pd.Categorical(RNG.choice(["free", "paid", "team"], COUNT), categories=["free", "paid", "team"]),
    }
)


@pytest.fixture
def served(tmp_path):
    """Saves a model as people do and gives what the server answers to rows."""

    def run(model, described="", name="model.pkl"):
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / name).write_bytes(cloudpickle.dumps(model))
        if described:
            (folder / "model.yaml").write_text(described)
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{folder}", "MODEL_SERVER_TRUSTED": "true"}
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


def answers(loaded, rows, *, output="predict"):
    inputs = loaded.adapter.from_instances(rows, numbers_only=False)
    return loaded.model.predict(inputs, probabilities=True)[output].tolist()


def lgbm(**options):
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=20, verbosity=-1, n_jobs=1, **options)


def xgb():
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=20, n_jobs=1, enable_categorical=True)


class OwnWrapper(ClassifierMixin, BaseEstimator):
    """A class of the package's own around a booster."""

    def fit(self, rows, y):
        self.inner = lgbm().fit(rows, y)
        self.feature_names_in_ = np.array(rows.columns, dtype=object)
        self.classes_ = self.inner.classes_
        return self

    def predict(self, rows):
        return self.inner.predict(rows)


WRAPPERS = [
    pytest.param(lambda make: make(), id="bare"),
    pytest.param(lambda make: Pipeline([("model", make())]), id="a pipeline"),
    pytest.param(lambda make: CalibratedClassifierCV(make(), cv=2), id="calibrated"),
    pytest.param(lambda make: VotingClassifier([("a", make()), ("b", make())], voting="soft"), id="a vote"),
    pytest.param(lambda make: StackingClassifier([("a", make())], cv=2), id="a stack"),
    pytest.param(lambda make: GridSearchCV(Pipeline([("m", make())]), {}, cv=2), id="a search over a pipeline"),
    pytest.param(lambda make: FixedThresholdClassifier(make()), id="a threshold"),
    pytest.param(lambda make: TunedThresholdClassifierCV(make(), cv=2), id="a tuned threshold"),
    pytest.param(lambda make: Pipeline([("c", CalibratedClassifierCV(make(), cv=2))]), id="calibrated in a pipeline"),
    pytest.param(lambda make: make_pipeline(FunctionTransformer(), make()), id="behind a step that does nothing"),
    pytest.param(
        lambda make: make_pipeline(
            make_column_transformer(
                (StandardScaler(), ["age"]), remainder="passthrough", verbose_feature_names_out=False
            ).set_output(transform="pandas"),
            make(),
        ),
        id="passed through by a column transformer",
    ),
    pytest.param(lambda make: OwnWrapper(), id="an own class"),
]


@pytest.mark.parametrize("make", [pytest.param(lgbm, id="lightgbm"), pytest.param(xgb, id="xgboost")])
@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("table", [pytest.param(NUMBERED, id="numbers"), pytest.param(NAMED, id="text")])
def test_categories_hold_in_whatever_a_booster_is_wrapped(served, make, wrap, table):
    column = table.columns[1]
    categories = table[column].cat.categories.tolist()
    model = wrap(make).fit(table, (table[column] == categories[1]).astype(int))
    loaded = served(model)
    assert answers(loaded, [{"age": 40, column: value} for value in categories]) == [0, 1, 0]
    with pytest.raises(InvalidInput, match="expected one of"):
        loaded.adapter.from_instances([{"age": 40, column: categories[0] * 100}], numbers_only=False)


def test_categories_of_a_regressor_whose_target_is_transformed(served):
    lightgbm = pytest.importorskip("lightgbm")
    booster = lightgbm.LGBMRegressor(n_estimators=20, verbosity=-1, n_jobs=1)
    model = TransformedTargetRegressor(booster, func=np.log1p, inverse_func=np.expm1)
    model.fit(NUMBERED, NUMBERED["store"].cat.codes.to_numpy() * 10.0)
    expected = model.predict(NUMBERED[:9]).tolist()
    assert answers(served(model), NUMBERED[:9].astype(object).to_numpy().tolist()) == expected


def test_categories_described_in_model_yaml(served):
    described = "input_features:\n- {name: age}\n- {name: plan, dtype: string, categories: [free, paid, team]}\n"
    model = Pipeline([("m", lgbm())]).fit(NAMED, (NAMED["plan"] == "paid").astype(int))
    assert answers(served(model, described), [[40, "free"], [40, "paid"]]) == [0, 1]


RATIO = pd.DataFrame({"a": RNG.normal(3, 1, 100), "b": RNG.normal(3, 0.3, 100)})
RATIO_TARGET = RATIO["a"] / RATIO["b"]


class Ratio(TransformerMixin, BaseEstimator):
    def fit(self, rows, y=None):
        self.fitted_ = True
        return self

    def transform(self, rows):
        return pd.DataFrame({"r": rows["a"] / rows["b"]})


class Objects(TransformerMixin, BaseEstimator):
    def fit(self, rows, y=None):
        return self

    def transform(self, rows):
        return pd.DataFrame(rows)[["a", "b"]]


class Second(TransformerMixin, BaseEstimator):
    """Takes an array, and could do nothing with a table."""

    def fit(self, rows, y=None):
        return self

    def transform(self, rows):
        return rows[:, 1:2]


class FirstOfNames(RegressorMixin, BaseEstimator):
    """An own model that picks a column by its name."""

    def fit(self, rows, y):
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, rows):
        return rows["a"].to_numpy()


OWN = [
    pytest.param(FunctionTransformer(lambda d: d.assign(r=d["a"] / d["b"])), RATIO, id="a function"),
    pytest.param(Ratio(), RATIO, id="a transformer"),
    pytest.param(Objects(), RATIO.to_dict("records"), id="a transformer of dicts"),
    pytest.param(Second(), RATIO.to_numpy(), id="a transformer of arrays"),
    pytest.param(FeatureUnion([("a", Ratio()), ("b", Ratio())]), RATIO, id="in a union"),
    pytest.param(Pipeline([("a", Ratio())]), RATIO, id="in a pipeline in a pipeline"),
    pytest.param(DictVectorizer(), RATIO.to_dict("records"), id="scikit-learn's own of dicts"),
]
DESCRIBED = [
    pytest.param("", id="undescribed"),
    pytest.param("input_features: [{name: a}, {name: b}]", id="named"),
    pytest.param("input_features: [{name: a, example: 3}, {name: b, example: 2}]", id="with examples"),
]


@pytest.mark.parametrize(("step", "table"), OWN)
@pytest.mark.parametrize("described", DESCRIBED)
def test_a_first_step_gets_the_form_that_it_was_trained_with(served, step, table, described):
    if described and isinstance(step, DictVectorizer):
        pytest.skip("a row of dicts has no columns")
    if not described and isinstance(step, FeatureUnion):
        pytest.skip("it counts its columns, and forgets their names")
    model = make_pipeline(step, LinearRegression()).fit(table, RATIO_TARGET)
    rows = table if isinstance(table, list) else RATIO.to_dict("records")
    if isinstance(table, np.ndarray) and not described:
        rows = table.tolist()
    expected = model.predict(table[:5])
    loaded = served(model, described)
    assert loaded.warm_up_failure == ""
    assert answers(loaded, rows[:5]) == expected.tolist()
    assert answers(loaded, rows[:1]) == model.predict(table[:1]).tolist()


def test_an_own_model_gets_a_table_where_an_array_does_not_do(served):
    model = FirstOfNames().fit(RATIO, RATIO_TARGET)
    loaded = served(model, "input_features: [{name: a}, {name: b}]")
    assert answers(loaded, [[1, 2], [3, 4]]) == [1, 3]


TEXTS = pd.DataFrame({"subject": ["good nice", "bad awful"] * 20, "size": np.arange(40.0)})
LABELS = [1, 0] * 20


@pytest.mark.parametrize(
    "step",
    [
        pytest.param((TfidfVectorizer(), "subject"), id="tf-idf"),
        pytest.param((HashingVectorizer(n_features=64), "subject"), id="hashed"),
        pytest.param((make_pipeline(TfidfVectorizer()), "subject"), id="tf-idf in a pipeline"),
        pytest.param((SimpleImputer(strategy="most_frequent"), ["subject"]), id="an imputer alone"),
        pytest.param((OrdinalEncoder(), make_column_selector(dtype_exclude="number")), id="a selector of columns"),
        pytest.param((OneHotEncoder(), [True, False]), id="a mask"),
        pytest.param((OneHotEncoder(), slice("subject", "subject")), id="a slice of names"),
        pytest.param((FunctionTransformer(lambda d: d.map(len)), ["subject"]), id="a function"),
    ],
)
def test_a_column_that_was_text_takes_text(served, step):
    transformer, columns = step
    parts = make_column_transformer((transformer, columns), remainder="passthrough")
    if isinstance(transformer, SimpleImputer):
        parts = make_pipeline(parts, OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(parts, LogisticRegression()).fit(TEXTS, LABELS)
    loaded = served(model)
    assert loaded.warm_up_failure == ""
    expected = model.predict(TEXTS[:4]).tolist()
    assert answers(loaded, TEXTS[:4].to_dict("records")) == expected


@pytest.mark.parametrize("as_table", [True, False], ids=["a table", "an array"])
def test_a_pipeline_that_begins_with_an_encoder_takes_text(served, as_table):
    table = pd.DataFrame({"plan": ["free", "paid"] * 20, "city": ["a", "b", "c", "d"] * 10})
    rows = table if as_table else table.to_numpy()
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, LABELS)
    loaded = served(model)
    assert loaded.warm_up_failure == ""
    assert answers(loaded, table[:4].to_numpy().tolist()) == LABELS[:4]


@pytest.mark.parametrize("build", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
@pytest.mark.parametrize("table", [NAMED, NUMBERED], ids=["text", "numbers"])
def test_histogram_boosting_takes_the_values_of_its_categories(served, build, table):
    model = build(categorical_features="from_dtype", max_iter=20)
    column = table.columns[1]
    model.fit(table, (table[column] == table[column].cat.categories[1]).astype(int))
    expected = model.predict(table[:6]).tolist()
    assert answers(served(model), table[:6].astype(object).to_numpy().tolist()) == expected


def test_a_column_that_the_model_drops_takes_anything(served):
    table = TEXTS.assign(id=["x"] * 40)
    parts = make_column_transformer((StandardScaler(), ["size"]), remainder="drop")
    loaded = served(make_pipeline(parts, LogisticRegression()).fit(table, LABELS))
    rows = [{"subject": "text", "size": 1, "id": 7}, {"subject": None, "size": 2, "id": "x"}]
    assert len(answers(loaded, rows)) == 2
    with pytest.raises(InvalidInput, match="size: expected a number"):
        loaded.adapter.from_instances([{"subject": "text", "size": "1", "id": 7}], numbers_only=False)


def test_a_text_a_row(served):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS["subject"], LABELS)
    loaded = served(model)
    assert loaded.warm_up_failure == ""
    for rows in (["good nice", "bad awful"], [["good nice"], ["bad awful"]], [{"a": "good nice"}, {"a": "bad awful"}]):
        assert answers(loaded, rows) == [1, 0]
    for shape in ((2,), (2, 1)):
        array = np.array(["good nice", "bad awful"], dtype=object).reshape(shape)
        inputs = loaded.adapter.from_tensors({"whatever": array})
        assert loaded.model.predict(inputs, probabilities=False)["predict"].tolist() == [1, 0]
    assert (loaded.adapter.tensors[0].datatype, loaded.adapter.tensors[0].shape) == ("BYTES", (-1, 1))
    assert [tensor.name for tensor in loaded.outputs] == ["predict", "predict_proba"]


WITH_HOLES = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0] * 20, "b": np.arange(80.0)})
HOLES_TARGET = [0, 1, 0, 1] * 20


@pytest.mark.parametrize(
    ("build", "allowed"),
    [
        pytest.param(lambda: make_pipeline(SimpleImputer(), LogisticRegression()), True, id="an imputer"),
        pytest.param(lambda: make_pipeline(StandardScaler(), KNNImputer(), LogisticRegression()), True, id="scaled"),
        pytest.param(lambda: HistGradientBoostingClassifier(max_iter=3), True, id="histogram boosting"),
        pytest.param(lambda: Pipeline([("m", lgbm())]), True, id="lightgbm"),
        pytest.param(lambda: xgb(), True, id="xgboost"),
        pytest.param(lambda: CalibratedClassifierCV(lgbm(), cv=2), True, id="calibrated"),
        pytest.param(
            lambda: make_pipeline(make_column_transformer((SimpleImputer(), ["a"]), remainder="passthrough"), lgbm()),
            True,
            id="imputed here and passed on there",
        ),
    ],
)
def test_nulls_that_the_model_handles_are_allowed(served, build, allowed):
    model = build().fit(WITH_HOLES, HOLES_TARGET)
    rows = [[None if value != value else value for value in row] for row in WITH_HOLES[:4].to_numpy().tolist()]
    loaded = served(model)
    assert answers(loaded, rows) == model.predict(WITH_HOLES[:4]).tolist()
    with pytest.raises(InvalidInput, match="a: is missing"):
        loaded.adapter.from_instances([{"b": 1}], numbers_only=False)


def test_nulls_that_nothing_handles_are_refused(served):
    parts = make_column_transformer((SimpleImputer(), ["a"]), (StandardScaler(), ["b"]))
    loaded = served(make_pipeline(parts, LogisticRegression()).fit(WITH_HOLES, HOLES_TARGET))
    assert len(answers(loaded, [{"a": None, "b": 1}])) == 1
    with pytest.raises(InvalidInput, match=r"b: expected a number, got null"):
        loaded.adapter.from_instances([{"a": 1, "b": None}], numbers_only=False)


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@pytest.mark.parametrize("build", [OneVsRestClassifier, MultiOutputClassifier])
def test_several_labels_are_dense_answers(served, build, sparse):
    labels = MultiLabelBinarizer(sparse_output=sparse).fit_transform([["a"], ["b"], ["a", "b"], []] * 10)
    if build is MultiOutputClassifier and sparse:
        pytest.skip("scikit-learn refuses it")
    rows = np.arange(80.0).reshape(40, 2)
    model = build(LogisticRegression()).fit(rows, labels)
    loaded = served(model)
    assert loaded.warm_up_failure == ""
    expected = model.predict(rows[:3])
    assert answers(loaded, rows[:3].tolist()) == (expected.toarray() if sparse else expected).tolist()


def test_names_in_which_lightgbm_replaced_the_blanks(served):
    table = NUMBERED.rename(columns={"store": "petal store", "age": "age (years)"})
    model = lgbm().fit(table, (table["petal store"] == 2).astype(int))
    described = "input_features: [{name: age (years)}, {name: petal store, dtype: int64}]"
    loaded = served(model, described)
    assert answers(loaded, [{"age (years)": 40, "petal store": 2}, {"age (years)": 40, "petal store": 3}]) == [1, 0]


def test_a_pickle_by_the_standard_library(served):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(RATIO, RATIO_TARGET > 1)
    expected = pickle.loads(pickle.dumps(model)).predict(RATIO[:3]).tolist()
    assert answers(served(model), RATIO[:3].to_numpy().tolist()) == expected
