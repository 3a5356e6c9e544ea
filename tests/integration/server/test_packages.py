"""Packages as people save them: compressed, with modules beside them, in dicts, from MLflow."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import sys
import zlib

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from model_server.errors import DependencyMissing, InvalidInput, LoadFailed, MetadataInvalid
from model_server.loader import load
from model_server.protocols.payload import Payload
from model_server.protocols.v1 import Instances
from model_server.settings import read_settings

ROWS = np.arange(20.0).reshape(10, 2)
MODEL = LinearRegression().fit(ROWS, ROWS[:, 0])


@pytest.fixture
def loaded(tmp_path):
    """Loads a package as the server does."""
    before = list(sys.path)

    def run(path):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{path}", "MODEL_SERVER_TRUSTED": "true"}
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    yield run
    sys.path[:] = before


def answers(found, rows):
    inputs = found.adapter.from_instances(rows, numbers_only=False)
    return found.model.predict(inputs, probabilities=False)["predict"].tolist()


@pytest.mark.parametrize(
    "name",
    ["model.joblib.gz", "model.joblib.z", "model.pkl.xz", "model.pkl.bz2", "model.joblib.lzma", "MODEL.PKL.GZ"],
)
def test_a_model_compressed_by_joblib(loaded, tmp_path, name):
    folder = tmp_path / "package"
    folder.mkdir()
    kinds = {"gz": "gzip", "z": "zlib", "xz": "xz", "bz2": "bz2", "lzma": "lzma"}
    joblib.dump(MODEL, folder / name, compress=(kinds[name.lower().rsplit(".", 1)[1]], 3))
    (folder / "training.csv.gz").write_bytes(gzip.compress(b"a,b"))
    assert answers(loaded(folder), [[3, 4]]) == MODEL.predict([[3, 4]]).tolist()


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("m.pkl.gz", gzip.compress),
        ("m.pickle.z", zlib.compress),
        ("m.pkl.xz", lzma.compress),
        ("m.pkl.bz2", bz2.compress),
    ],
)
def test_a_pickle_that_was_compressed_afterwards(loaded, tmp_path, name, compress):
    (tmp_path / name).write_bytes(compress(pickle.dumps(MODEL)))
    assert answers(loaded(tmp_path / name), [[3, 4]]) == MODEL.predict([[3, 4]]).tolist()


@pytest.mark.parametrize(
    "held",
    [
        pytest.param({"model": MODEL, "columns": ["a", "b"]}, id="a dict"),
        pytest.param((MODEL, ["a", "b"]), id="a tuple"),
        pytest.param([np.array(["a", "b"]), MODEL], id="a list with an array"),
        pytest.param({"model": MODEL, "features": ["a", "b"], "target": ["y"], "auc": 0.9}, id="with more beside it"),
    ],
)
def test_a_model_beside_its_columns(loaded, tmp_path, held):
    joblib.dump(held, tmp_path / "model.joblib")
    found = loaded(tmp_path / "model.joblib")
    assert [feature.name for feature in found.adapter.features] == ["a", "b"]
    assert answers(found, [{"b": 4, "a": 3}]) == MODEL.predict([[3, 4]]).tolist()


@pytest.mark.parametrize(
    ("held", "text"),
    [
        pytest.param({"model": MODEL, "scaler": StandardScaler()}, "'scaler': StandardScaler", id="a scaler beside it"),
        pytest.param({"a": MODEL, "b": MODEL}, "which is not one model", id="two models"),
        pytest.param({"weights": [1, 2]}, "'weights': list", id="no model"),
        pytest.param((), "which is not one model", id="nothing"),
    ],
)
def test_parts_that_would_have_to_be_put_together_are_refused(loaded, tmp_path, held, text):
    joblib.dump(held, tmp_path / "model.joblib")
    with pytest.raises(LoadFailed, match=text) as caught:
        loaded(tmp_path / "model.joblib")
    assert "Pipeline" in caught.value.hint


STEP = """
from sklearn.base import BaseEstimator, TransformerMixin

class Double(TransformerMixin, BaseEstimator):
    def fit(self, rows, y=None):
        return self

    def transform(self, rows):
        return rows * 2
"""


@pytest.fixture
def own_step(tmp_path):
    """A module of one's own, and a model that is made of it, as the training script saved it."""

    def save(module_folder, model_path, name):
        module_folder.mkdir(parents=True, exist_ok=True)
        (module_folder / f"{name}.py").write_text(STEP)
        sys.path.insert(0, str(module_folder))
        module = __import__(name)
        joblib.dump(make_pipeline(module.Double(), LinearRegression()).fit(ROWS, ROWS[:, 0]), model_path)
        sys.path.remove(str(module_folder))
        del sys.modules[name]

    return save


def test_a_module_beside_the_model(loaded, tmp_path, own_step):
    folder = tmp_path / "package"
    own_step(folder, tmp_path / "model.joblib", "steps_beside")
    (tmp_path / "model.joblib").rename(folder / "model.joblib")
    assert np.allclose(answers(loaded(folder), [[3, 4]]), 3)


def test_a_module_in_mlflows_code_folder(loaded, tmp_path, own_step):
    folder = tmp_path / "package"
    own_step(folder / "code", folder / "model.pkl", "steps_of_mlflow")
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    code: code\n    pickled_model: model.pkl\n")
    assert np.allclose(answers(loaded(folder), [[3, 4]]), 3)


def test_a_module_that_is_not_there_is_named_with_the_place_to_put_it(loaded, tmp_path, own_step):
    own_step(tmp_path / "elsewhere", tmp_path / "model.joblib", "steps_elsewhere")
    with pytest.raises(DependencyMissing, match="needs the module steps_elsewhere") as caught:
        loaded(tmp_path / "model.joblib")
    assert "steps_elsewhere.py" in caught.value.hint


def test_what_lies_beside_a_lone_file_is_not_imported(loaded, tmp_path, own_step):
    own_step(tmp_path, tmp_path / "model.joblib", "steps_of_others")
    with pytest.raises(DependencyMissing):
        loaded(tmp_path / "model.joblib")


def test_mlflows_code_folder_is_inside_the_package(loaded, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    joblib.dump(MODEL, folder / "model.pkl")
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    code: ../other\n    pickled_model: model.pkl\n")
    with pytest.raises(MetadataInvalid, match="must be a path inside the package"):
        loaded(folder)


@pytest.fixture
def dated(tmp_path):
    """A model that looks at the hour of a time, as an MLflow folder with some signature."""
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"ts": pd.date_range("2024-01-01", periods=200, freq="37min"), "load": np.arange(200.0)})
    hour = FunctionTransformer(lambda d: d["ts"].dt.hour.to_frame())
    model = make_pipeline(
        make_column_transformer((hour, ["ts"]), ("passthrough", ["load"])), HistGradientBoostingRegressor()
    )
    model.fit(table, table["ts"].dt.hour)

    def save(columns=None, described=""):
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
        if columns is not None:
            flavors = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n"
            (folder / "MLmodel").write_text(f"{flavors}signature:\n  inputs: '{json.dumps(columns)}'\n")
        if described:
            (folder / "model.yaml").write_text(described)
        return folder

    save.expected = lambda text, number: model.predict(
        pd.DataFrame({"ts": [pd.Timestamp(text)], "load": [number]})
    ).tolist()
    return save


@pytest.mark.parametrize(
    ("columns", "described"),
    [
        pytest.param([{"name": "ts", "type": "datetime"}, {"name": "load", "type": "double"}], "", id="mlflow"),
        pytest.param(None, "input_features: [{name: ts, dtype: datetime}, {name: load}]", id="model.yaml"),
        pytest.param(
            None,
            'input_features: [{name: ts, dtype: datetime, example: "2024-03-01"}, {name: load, example: 1}]',
            id="with an example",
        ),
    ],
)
def test_a_column_of_times(loaded, dated, columns, described):
    found = loaded(dated(columns, described))
    assert found.warm_up_failure == ""
    expected = dated.expected("2024-03-01T05:00:00", 1.0)
    for text in ("2024-03-01T05:00:00", "2024-03-01 05:00", "2024-03-01T05:00:00Z", "2024-03-01T07:00:00+02:00"):
        assert answers(found, [{"ts": text, "load": 1.0}]) == expected
    tensors = {"ts": np.array([b"2024-03-01T05:00:00"], dtype=object), "load": np.array([[1.0]])}
    assert found.model.predict(found.adapter.from_tensors(tensors), probabilities=False)["predict"].tolist() == expected
    for bad in ("yesterday", "2024-13-01", 5, True, "0001-01-01", "9999-12-31T23:59:59-12:00"):
        with pytest.raises(InvalidInput, match=r"ts: expected a date and time as 2024-03-01T05:00:00, got"):
            found.adapter.from_instances([{"ts": bad, "load": 1}], numbers_only=False)


def test_a_column_of_dates_refuses_times(loaded, dated):
    found = loaded(dated(None, "input_features: [{name: ts, dtype: date}, {name: load}]"))
    assert answers(found, [{"ts": "2024-03-01", "load": 1.0}]) == dated.expected("2024-03-01", 1.0)
    with pytest.raises(InvalidInput, match="expected a date as 2024-03-01"):
        found.adapter.from_instances([{"ts": "2024-03-01T05:00:00", "load": 1}], numbers_only=False)


@pytest.mark.parametrize("kind", ["datetime", "binary", "array", "a type of tomorrow"])
def test_one_column_of_another_type_does_not_drop_the_signature(loaded, tmp_path, kind):
    pd = pytest.importorskip("pandas")
    folder = tmp_path / "package"
    folder.mkdir()
    table = pd.DataFrame({"other": ["x"] * 10, "load": np.arange(10.0)})
    parts = make_column_transformer(("passthrough", ["load"]))
    model = make_pipeline(parts, HistGradientBoostingRegressor()).fit(table, table["load"])
    joblib.dump(model, folder / "model.pkl")
    columns = [{"name": "other", "type": kind}, {"name": "load", "type": "double", "required": False}]
    flavors = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n"
    (folder / "MLmodel").write_text(f"{flavors}signature:\n  inputs: '{json.dumps(columns)}'\n")
    found = loaded(folder)
    assert [feature.nullable for feature in found.adapter.features] == [False, True]
    assert len(answers(found, [{"other": "2024-03-01", "load": None}, {"other": "2024-03-01"}])) == 2


def test_a_signature_that_contradicts_the_model_is_the_signatures_fault(loaded, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    joblib.dump(MODEL, folder / "model.pkl")
    flavors = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n"
    columns = json.dumps([{"name": "a", "type": "double"}])
    (folder / "MLmodel").write_text(f"{flavors}signature:\n  inputs: '{columns}'\n")
    with pytest.raises(MetadataInvalid, match=r"MLmodel: signature\.inputs lists 1, and the model was trained with 2"):
        loaded(folder)


@pytest.mark.parametrize(
    ("build", "labels", "classes"),
    [
        pytest.param(LinearSVC, ["no", "yes"], ["no", "yes"], id="two classes"),
        pytest.param(LinearSVC, ["a", "b", "c"], ["a", "b", "c"], id="three classes"),
        pytest.param(RidgeClassifier, [0, 1], [0, 1], id="ridge"),
        pytest.param(
            lambda: make_pipeline(StandardScaler(), LinearSVC()), ["no", "yes"], ["no", "yes"], id="a pipeline"
        ),
        pytest.param(IsolationForest, None, None, id="outliers"),
    ],
)
def test_scores_of_a_model_without_probabilities(loaded, tmp_path, build, labels, classes):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    model = build().fit(rows, None if labels is None else np.resize(labels, 60))
    joblib.dump(model, tmp_path / "model.joblib")
    found = loaded(tmp_path / "model.joblib")
    body = json.dumps({"instances": rows[:2].tolist(), "parameters": {"scores": True}}).encode()
    request = Instances().decode(Payload(body, {}), found, max_rows=9)
    outputs = found.model.predict(request.inputs, probabilities=request.probabilities)
    answer = json.loads(Instances().encode(outputs, request, found).body)
    assert np.allclose(answer["scores"], model.decision_function(rows[:2]))
    assert answer["predictions"] == model.predict(rows[:2]).tolist()
    assert answer.get("classes") == classes
    assert [tensor.name for tensor in found.outputs] == ["predict", "decision_function"]
    body = b'{"instances": [[1, 2]], "parameters": {"probabilities": true}}'
    with pytest.raises(InvalidInput, match="this model gives no probabilities; it gives scores"):
        Instances().decode(Payload(body, {}), found, max_rows=9)


def test_scores_of_a_model_that_has_probabilities(loaded, tmp_path):
    joblib.dump(LogisticRegression().fit(ROWS, [0, 1] * 5), tmp_path / "model.joblib")
    found = loaded(tmp_path / "model.joblib")
    body = b'{"instances": [[1, 2]], "parameters": {"scores": true}}'
    with pytest.raises(InvalidInput, match="this model gives no scores; it gives probabilities"):
        Instances().decode(Payload(body, {}), found, max_rows=9)


def test_a_labelled_pipeline_of_text_labels(loaded, tmp_path):
    model = LogisticRegression().fit(ROWS, ["no"] * 5 + ["yes"] * 5)
    joblib.dump(model, tmp_path / "model.joblib")
    assert answers(loaded(tmp_path / "model.joblib"), [[0, 1], [18, 19]]) == ["no", "yes"]
