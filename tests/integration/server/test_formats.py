"""Every format, with a model really trained here: what is served is what the library itself predicts."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from model_server.errors import ArtifactNotTrusted, StartError
from model_server.loading import load
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
    inputs = found.layout.from_instances(rows.tolist(), plain=True)
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
    assert [feature.name for feature in found.layout.features] == names
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
    outputs = found.model.predict(found.layout.from_instances(instances, plain=True), probabilities=False)
    assert outputs["predict"].tolist() == [1, 0]


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
    assert [feature.name for feature in found.layout.features] == list(WINE.feature_names)
    assert predict(found, WINE.data)["predict"].tolist() == model.predict(WINE.data).tolist()


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
