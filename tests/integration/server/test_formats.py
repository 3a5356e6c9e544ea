"""Every format, with a model really trained here: what is served is what the library itself predicts."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
import yaml
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from model_server.errors import ArtifactNotTrusted, InvalidInput, StartError
from model_server.loader import load
from model_server.protocols.v1 import predictions
from model_server.runtimes.tables import as_table
from model_server.settings import read_settings

WINE = load_wine()
DIABETES = load_diabetes()


@pytest.fixture
def loaded(tmp_path):
    """Loads a package as the server does."""

    def run(path, **settings):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{path}"}
        environ |= {f"MODEL_SERVER_{name.upper()}": value for name, value in settings.items()}
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


def predict(found, rows, *, probabilities=False):
    inputs = found.adapter.from_instances(rows.tolist(), numbers_only=True)
    return found.model.predict(inputs, probabilities=probabilities)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_an_xgboost_classifier_gives_labels_and_probabilities(loaded, tmp_path, suffix):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1).fit(WINE.data, WINE.target)
    model.save_model(tmp_path / f"model.{suffix}")
    found = loaded(tmp_path / f"model.{suffix}")
    assert found.identity.format == "xgboost"
    outputs = predict(found, WINE.data, probabilities=True)
    assert outputs["predict"].tolist() == model.predict(WINE.data).tolist()
    assert outputs["predict_proba"].tolist() == model.predict_proba(WINE.data).tolist()


def test_an_xgboost_booster_gives_its_scores(loaded, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    names = [f"n{index}" for index in range(10)]
    table = xgboost.DMatrix(DIABETES.data, DIABETES.target, feature_names=names)
    booster = xgboost.train({"nthread": 1}, table, 10)
    booster.save_model(tmp_path / "model.ubj")
    found = loaded(tmp_path / "model.ubj")
    assert [feature.name for feature in found.adapter.features] == names
    assert predict(found, DIABETES.data)["predict"].tolist() == booster.predict(table).tolist()


def test_a_lightgbm_booster_gives_its_scores(loaded, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(WINE.data, WINE.target), 10)
    booster.save_model(tmp_path / "model.txt")
    found = loaded(tmp_path / "model.txt")
    assert found.identity.format == "lightgbm"
    assert predict(found, WINE.data)["predict"].tolist() == booster.predict(WINE.data).tolist()


def test_a_pickled_lightgbm_wrapper_is_scikit_learns(loaded, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(WINE.data, WINE.target_names[WINE.target])
    joblib.dump(model, tmp_path / "model.joblib")
    found = loaded(tmp_path / "model.joblib", trusted="true")
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()


def test_skops_needs_no_trust_for_scikit_learns_own_types(loaded, tmp_path):
    io = pytest.importorskip("skops.io")
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(WINE.data, WINE.target)
    io.dump(model, tmp_path / "model.skops")
    found = loaded(tmp_path / "model.skops")
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()


def test_another_number_of_features_than_the_model_was_trained_with(loaded, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    joblib.dump(LogisticRegression().fit(WINE.data[:, :3], WINE.target), folder / "model.joblib")
    (folder / "model.yaml").write_text("input_features: [{name: a}, {name: b}]")
    with pytest.raises(StartError, match="lists 2, and the model was trained with 3") as caught:
        loaded(folder, trusted="true")
    assert caught.value.reason == "MetadataInvalid"


def test_skops_names_the_types_that_need_trust(loaded, tmp_path):
    io = pytest.importorskip("skops.io")
    step = FunctionTransformer(np.linalg.norm)
    io.dump(step, tmp_path / "model.skops")
    with pytest.raises(ArtifactNotTrusted, match=r"types that need trust: numpy\.linalg"):
        loaded(tmp_path / "model.skops")


def test_a_model_of_a_table_with_text_gets_a_table(loaded, tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": [20, 30, 40, 50], "plan": ["free", "paid", "free", "paid"]})
    model = make_pipeline(
        ColumnTransformer([("text", OneHotEncoder(), ["plan"])], remainder="passthrough"), LogisticRegression()
    )
    model.fit(table, [0, 1, 0, 1])
    joblib.dump(model, tmp_path / "model.joblib")
    features = [{"name": "age", "dtype": "int64"}, {"name": "plan", "dtype": "string", "categories": ["free", "paid"]}]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"input_features": features}))
    (tmp_path / "scratch").mkdir()
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("model.joblib", "model.yaml"):
        (tmp_path / name).rename(folder / name)
    found = loaded(folder, trusted="true")
    instances = [{"plan": "paid", "age": 33}, [20, "free"]]
    outputs = found.model.predict(found.adapter.from_instances(instances, numbers_only=True), probabilities=False)
    assert outputs["predict"].tolist() == [1, 0]


def package(tmp_path, model, features=None):
    folder = tmp_path / "package"
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "model.joblib")
    if features:
        (folder / "model.yaml").write_text(yaml.safe_dump({"input_features": features}))
    return folder


def by_name(table):
    """A model that picks a column by its name, to be wrapped in others."""
    return make_pipeline(ColumnTransformer([("one", StandardScaler(), [table.columns[1]])]), Ridge())


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda model: GridSearchCV(model, {"ridge__alpha": [1, 2]}, cv=2), id="a search"),
        pytest.param(lambda model: VotingRegressor([("a", model)]), id="a vote"),
        pytest.param(lambda model: TransformedTargetRegressor(model), id="a transformed target"),
        pytest.param(lambda model: make_pipeline(FeatureUnion([("a", model[:1])]), Ridge()), id="a union of features"),
    ],
)
def test_a_model_that_holds_one_that_selects_columns_gets_a_table(loaded, tmp_path, wrap):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(DIABETES.data[:40, :2], columns=["age", "sex"])
    model = wrap(by_name(table)).fit(table, DIABETES.target[:40])
    found = loaded(package(tmp_path, model), trusted="true")
    assert predict(found, table.to_numpy())["predict"].tolist() == model.predict(table).tolist()


@pytest.mark.parametrize(
    "encoder",
    [
        pytest.param(OneHotEncoder(), id="one-hot"),
        pytest.param(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), id="after an imputer"),
    ],
)
def test_columns_whose_encoder_learnt_text_are_text_without_a_word_in_model_yaml(loaded, tmp_path, encoder):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"plan": ["free", "paid"] * 20, "age": np.arange(40.0), "zip": [1, 2, 3, 4] * 10})
    parts = make_column_transformer((encoder, ["plan"]), (OneHotEncoder(), ["zip"]), remainder="passthrough")
    model = make_pipeline(parts, LogisticRegression(max_iter=500)).fit(table, (table["plan"] == "paid").astype(int))
    found = loaded(package(tmp_path, model), trusted="true")
    assert [feature.dtype for feature in found.adapter.features] == ["string", "float64", "float64"]
    assert predict(found, table.to_numpy(dtype=object))["predict"].tolist() == model.predict(table).tolist()


def test_a_single_column_of_text_is_a_table_of_one_column(loaded, tmp_path):
    rows = np.array([["a"], ["b"], ["a"], ["b"]], dtype=object)
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, [0, 1, 0, 1])
    found = loaded(package(tmp_path, model, [{"name": "plan", "dtype": "string"}]), trusted="true")
    assert predict(found, rows)["predict"].tolist() == [0, 1, 0, 1]


def test_text_that_is_missing_is_nan_to_the_model():
    pytest.importorskip("pandas")
    table = as_table({"plan": np.array(["free", None], dtype=object)}, {})
    assert np.isnan(table["plan"].tolist()[1])


@pytest.mark.parametrize("third", [[0, 1], [0, 1, 2]], ids=["as many classes in each", "another number of classes"])
def test_a_classifier_of_several_outputs_gives_labels_and_no_probabilities(loaded, tmp_path, third):
    labels = np.column_stack([WINE.target == 1, np.resize(third, len(WINE.target))]).astype(int)
    model = DecisionTreeClassifier(max_depth=3).fit(WINE.data, labels)
    found = loaded(package(tmp_path, model), trusted="true")
    assert found.model.probability_output == ""
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()


def of_categories(pandas, first):
    """A table whose columns of categories would be misread as their codes: numbers and text."""
    rng = np.random.default_rng(0)
    plain = {"x": rng.normal(size=200), "zip": rng.choice([100, 205, 417], 200), "city": rng.choice([first, "b"], 200)}
    table = pandas.DataFrame(plain)
    target = (table.zip == 205) * 3.0 + (table.city == first) * 5 + table.x
    return table, table.astype({"zip": "category", "city": "category"}), target


@pytest.mark.parametrize("save", ["pickle", "own", "booster"])
@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_categories_are_what_they_were_in_training(loaded, tmp_path, library, save):
    pandas = pytest.importorskip("pandas")
    plain, table, target = of_categories(pandas, "ä" if library == "lightgbm" else "aa")
    if library == "lightgbm":
        wrapper = pytest.importorskip("lightgbm").LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1).fit(table, target)
        own, booster = wrapper.booster_.save_model, wrapper.booster_.save_model
    else:
        xgboost = pytest.importorskip("xgboost")
        wrapper = xgboost.XGBRegressor(n_estimators=5, n_jobs=1, enable_categorical=True).fit(table, target)
        trained = xgboost.train({"nthread": 1}, xgboost.DMatrix(table, target, enable_categorical=True), 5)
        own, booster = wrapper.save_model, trained.save_model
    path = tmp_path / {"pickle": "model.joblib", "own": "model.ubj", "booster": "model.ubj"}[save]
    if save == "pickle":
        joblib.dump(wrapper, path)
    else:
        path = path.with_suffix(".txt") if library == "lightgbm" else path
        {"own": own, "booster": booster}[save](path)
    found = loaded(path, trusted="true")
    expected = wrapper.predict(table[:9]) if save != "booster" or library == "lightgbm" else None
    if expected is None:
        expected = trained.predict(xgboost.DMatrix(table[:9], enable_categorical=True))
    rows = [list(row) for row in plain[:9].itertuples(index=False)]
    inputs = found.adapter.from_instances(rows, numbers_only=True)
    assert found.model.predict(inputs, probabilities=False)["predict"].tolist() == expected.tolist()
    with pytest.raises(InvalidInput, match="zip: expected one of 100, 205, 417, got 0"):
        found.adapter.from_instances([[1.0, 0, "b"]], numbers_only=True)


def test_categories_declared_as_something_else_are_refused(loaded, tmp_path):
    pandas = pytest.importorskip("pandas")
    lightgbm = pytest.importorskip("lightgbm")
    _, table, target = of_categories(pandas, "ä")
    model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit(table, target)
    features = [{"name": "x"}, {"name": "zip", "dtype": "int64"}, {"name": "city"}]
    with pytest.raises(StartError, match="city is of dtype float64, and was trained as the categories 'b', 'ä'"):
        loaded(package(tmp_path, model, features), trusted="true")


def test_categories_that_xgboost_has_cut_are_refused(loaded, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    _, table, target = of_categories(pytest.importorskip("pandas"), "ä")
    model = xgboost.XGBRegressor(n_estimators=2, n_jobs=1, enable_categorical=True).fit(table, target)
    with pytest.raises(StartError, match="categories beyond ASCII"):
        loaded(package(tmp_path, model), trusted="true")


@pytest.mark.parametrize("labels", [["ä", "b", "c"], [3, 1, -2]], ids=["text", "numbers"])
@pytest.mark.parametrize(
    "model", [LogisticRegression(), DecisionTreeClassifier(), GaussianNB(), KNeighborsClassifier()], ids=repr
)
def test_an_onnx_classifier_names_its_classes_or_says_that_it_cannot(loaded, tmp_path, model, labels):
    from skl2onnx import to_onnx

    rows = WINE.data[:, :2].astype(np.float32)
    model.fit(rows, np.array(labels)[WINE.target])
    (tmp_path / "model.onnx").write_bytes(
        to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString()  # no map that would name them
    )
    found = loaded(tmp_path / "model.onnx")
    silent = isinstance(model, KNeighborsClassifier) and labels[0] == 3
    assert found.model.classes == (() if silent else tuple(model.classes_.tolist()))
    answer = predictions(predict(found, rows[:3], probabilities=True), found, probabilities=True)
    assert (b'"classes"' in answer) is not silent


def a_graph(tmp_path, nodes, inputs, outputs):
    """An ONNX file of nodes (type, inputs, outputs, attributes) between ends (name, type, shape)."""
    from onnx import helper

    ends = [[helper.make_tensor_value_info(*end) for end in side] for side in (inputs, outputs)]
    made = [helper.make_node(*node[:3], **dict(*node[3:])) for node in nodes]
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(helper.make_graph(made, "g", *ends), ir_version=8, opset_imports=opsets)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "model.onnx"


def test_labels_that_are_the_place_of_the_highest_score_are_numbers(loaded, tmp_path):
    from onnx import TensorProto

    nodes = [("ArgMax", ["x"], ["label"], {"axis": 1, "keepdims": 0}), ("Softmax", ["x"], ["scores"])]
    outputs = [("label", TensorProto.INT64, [None]), ("scores", TensorProto.FLOAT, [None, 3])]
    found = loaded(a_graph(tmp_path, nodes, [("x", TensorProto.FLOAT, [None, 3])], outputs))
    assert found.model.classes == (0, 1, 2)


def test_a_graph_of_one_row_is_asked_row_by_row(loaded, tmp_path):
    from onnx import TensorProto

    ends = [[(name, TensorProto.FLOAT, [1, 2])] for name in "xy"]
    found = loaded(a_graph(tmp_path, [("Identity", ["x"], ["y"])], *ends))
    assert predict(found, np.array([[1.0, 2], [3, 4], [5, 6]]))["y"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_graph_of_another_number_of_rows_is_refused(loaded, tmp_path):
    from onnx import TensorProto

    ends = [[(name, TensorProto.FLOAT, [4, 2])] for name in "xy"]
    with pytest.raises(StartError, match="input x takes 4 rows and no other number"):
        loaded(a_graph(tmp_path, [("Identity", ["x"], ["y"])], *ends))


def test_a_column_of_booleans_is_a_number_to_a_booster(loaded, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(WINE.data[:, :2], WINE.target), 3)
    (tmp_path / "package").mkdir()
    booster.save_model(tmp_path / "package" / "model.txt")
    features = "input_features: [{name: a}, {name: b, dtype: bool}]"
    (tmp_path / "package" / "model.yaml").write_text(features)
    inputs = loaded(tmp_path / "package").adapter.from_instances([[13, True]], numbers_only=False)
    answer = loaded(tmp_path / "package").model.predict(inputs, probabilities=False)["predict"]
    assert answer.tolist() == booster.predict([[13, 1]]).tolist()


def mlflow_folder(folder, flavor, entry, artifact):
    folder.mkdir()
    columns = json.dumps([{"name": name, "type": "double"} for name in WINE.feature_names])
    flavors = {"python_function": {"loader_module": f"mlflow.{flavor}"}, flavor: {entry: artifact}}
    document = {"flavors": flavors, "model_uuid": "0123456789abcdef", "signature": {"inputs": columns}}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    (folder / "requirements.txt").write_text("mlflow==3.1.0\n")
    return folder


def test_an_mlflow_folder_is_read_by_its_flavor(loaded, tmp_path):
    folder = mlflow_folder(tmp_path / "package", "sklearn", "pickled_model", "model.pkl")
    model = RandomForestClassifier(10, random_state=0).fit(WINE.data, WINE.target)
    joblib.dump(model, folder / "model.pkl")
    with pytest.raises(ArtifactNotTrusted):
        loaded(folder)
    found = loaded(folder, trusted="true", format="mlflow")
    assert (found.identity.format, found.identity.version) == ("sklearn", "0123456789ab")
    assert [feature.name for feature in found.adapter.features] == list(WINE.feature_names)
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()


def test_an_mlflow_folder_may_hold_a_pickled_wrapper(loaded, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    folder = mlflow_folder(tmp_path / "package", "lightgbm", "data", "model.pkl")
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(WINE.data, WINE.target_names[WINE.target])
    joblib.dump(model, folder / "model.pkl")
    with pytest.raises(ArtifactNotTrusted):
        loaded(folder)
    found = loaded(folder, trusted="true")
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()
    assert found.adapter.features[0].name == "alcohol", "the names that LightGBM made up are none"


def test_an_optional_column_of_mlflow_may_be_null(loaded, tmp_path):
    folder = mlflow_folder(tmp_path / "package", "sklearn", "pickled_model", "model.pkl")
    joblib.dump(DecisionTreeClassifier().fit(WINE.data[:, :2], WINE.target), folder / "model.pkl")
    columns = [{"name": "a", "type": "double"}, {"name": "b", "type": "double", "required": False}]
    document = yaml.safe_load((folder / "MLmodel").read_text()) | {"signature": {"inputs": json.dumps(columns)}}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    found = loaded(folder, trusted="true")
    assert [feature.nullable for feature in found.adapter.features] == [False, True]


@pytest.mark.parametrize(
    ("files", "settings", "reason", "message"),
    [
        pytest.param(
            {"model.json": b'{"learner":'}, {}, "ArtifactCorrupt", "no XGBoost model", id="half an XGBoost file"
        ),
        pytest.param({"model.ubj": b"{L\x00"}, {}, "ArtifactCorrupt", "no XGBoost model", id="half a UBJ file"),
        pytest.param(
            {"model.txt": b"tree\nversion=v4\n"}, {}, "ArtifactCorrupt", "no LightGBM model", id="half a LightGBM file"
        ),
        pytest.param({"model.skops": b"PK\x03\x04"}, {}, "ArtifactCorrupt", "no skops file", id="half a skops file"),
        pytest.param(
            {"config.json": b'{"a": 1}'},
            {},
            "FormatUnknown",
            "no model was recognised",
            id="a JSON file that is no model",
        ),
        pytest.param(
            {"model.onnx": b"\x08"}, {"format": "mlflow"}, "FormatMismatch", "no MLmodel file", id="no MLflow folder"
        ),
        pytest.param(
            {"MLmodel": b"flavors: {spark: {}}"}, {}, "FormatUnknown", "has the flavors spark", id="an unknown flavor"
        ),
        pytest.param({"MLmodel": b"a: 1"}, {}, "MetadataInvalid", "MLmodel cannot be read", id="no flavors"),
        pytest.param(
            {"MLmodel": b"flavors: {onnx: {data: gone.onnx}}"},
            {},
            "FormatUnknown",
            "names 'gone.onnx'",
            id="a flavor without its file",
        ),
    ],
)
def test_a_broken_package_is_told_by_its_reason(loaded, tmp_path, files, settings, reason, message):
    for module in ("xgboost", "lightgbm", "skops"):
        pytest.importorskip(module)
    folder = tmp_path / "package"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(StartError) as caught:
        loaded(folder, **settings)
    assert caught.value.reason == reason
    assert message in caught.value.message
