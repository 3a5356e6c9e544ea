"""CatBoost's own files answer as the trained model does, on scikit-learn's data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from model_server.errors import InvalidInput, StartError
from model_server.loader import load
from model_server.settings import read_settings

catboost = pytest.importorskip("catboost", reason="needs modeldeploy[server-catboost]")
pandas = pytest.importorskip("pandas", reason="needs modeldeploy[server-pandas]")

QUIET = {"iterations": 15, "depth": 3, "verbose": False, "allow_writing_files": False, "random_seed": 1}


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    return folder


@pytest.fixture
def loaded(tmp_path):
    """Loads a package as the server does; nobody has to trust the file."""

    def run(path):
        environ = {"MODEL_SERVER_STORAGE_URI": f"file://{path}"}
        return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)

    return run


def predict(found, rows, *, probabilities=False):
    inputs = found.adapter.from_instances(rows, numbers_only=False)
    return found.model.predict(inputs, probabilities=probabilities)


@pytest.fixture(scope="module")
def mixed():
    """Wines with a number, a category in text, a category in numbers and a text."""
    data = load_wine(as_frame=True)
    table = data.data[["alcohol", "hue"]].copy()
    table["strength"] = pandas.cut(table.alcohol, 3, labels=["low", "middle", "high"]).astype(str)
    table["zone"] = (table.hue * 3).astype(int)
    table["note"] = ["a red and very good wine" if hue > 1 else "a pale wine" for hue in table.hue]
    return table, np.asarray(data.target_names)[data.target]


@pytest.fixture(scope="module")
def mixed_model(mixed):
    table, labels = mixed
    model = catboost.CatBoostClassifier(cat_features=["strength", "zone"], text_features=["note"], **QUIET)
    return model.fit(table, labels)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        pytest.param([0, 1, 2], int, id="numbers"),
        pytest.param(["barolo", "grignolino", "barbera"], str, id="text"),
        pytest.param([0.5, 1.5, 2.5], float, id="floats"),
    ],
)
def test_a_classifier_gives_its_own_labels_and_probabilities(loaded, package, labels, kind):
    data = load_wine()
    model = catboost.CatBoostClassifier(**QUIET).fit(data.data, np.array(labels)[data.target])
    model.save_model(package / "model.cbm")
    found = loaded(package)
    assert found.identity.format == "catboost"
    outputs = predict(found, data.data.tolist(), probabilities=True)
    assert outputs["predict"].tolist() == model.predict(data.data).ravel().tolist()
    np.testing.assert_allclose(outputs["predict_proba"], model.predict_proba(data.data), rtol=1e-9)
    assert list(found.class_labels) == sorted(labels)
    assert {type(label) for label in found.class_labels} == {kind}
    assert [feature.name for feature in found.adapter.features][:2] == ["x0", "x1"]


def test_a_binary_classifier_with_named_features(loaded, package):
    data = load_breast_cancer(as_frame=True)
    model = catboost.CatBoostClassifier(**QUIET).fit(data.data, data.target == 1)
    model.save_model(package / "model.cbm")
    found = loaded(package)
    assert [feature.name for feature in found.adapter.features] == list(data.data.columns)
    outputs = predict(found, data.data.to_dict("records"), probabilities=True)
    np.testing.assert_allclose(outputs["predict_proba"], model.predict_proba(data.data), rtol=1e-9)
    assert [str(label) for label in outputs["predict"]] == [str(label) for label in model.predict(data.data)]


@pytest.mark.parametrize("loss", ["RMSE", "MAE", "Poisson", "Tweedie:variance_power=1.5"])
def test_a_regressor_gives_what_its_wrapper_gives(loaded, package, loss):
    rows, target = load_diabetes(return_X_y=True)
    model = catboost.CatBoostRegressor(loss_function=loss, **QUIET).fit(rows, target)
    model.save_model(package / "model.cbm")
    found = loaded(package)
    np.testing.assert_allclose(predict(found, rows.tolist())["predict"], model.predict(rows), rtol=1e-9)
    assert found.answers_numbers


def test_a_ranker_gives_scores(loaded, package):
    rows, target = load_diabetes(return_X_y=True)
    pool = catboost.Pool(rows, target, group_id=np.arange(len(rows)) // 10)
    model = catboost.CatBoostRanker(loss_function="YetiRank", **QUIET).fit(pool)
    model.save_model(package / "model.cbm")
    np.testing.assert_allclose(predict(loaded(package), rows.tolist())["predict"], model.predict(rows), rtol=1e-9)


def test_several_labels_a_row(loaded, package):
    data = load_wine()
    several = np.stack([data.target == 0, data.target != 1], axis=1).astype(int)
    model = catboost.CatBoostClassifier(loss_function="MultiLogloss", **QUIET).fit(data.data, several)
    model.save_model(package / "model.cbm")
    outputs = predict(loaded(package), data.data.tolist(), probabilities=True)
    assert outputs["predict"].tolist() == model.predict(data.data).tolist()
    np.testing.assert_allclose(outputs["predict_proba"], model.predict_proba(data.data), rtol=1e-9)


def test_categories_and_texts_are_sent_as_values(serve, package, mixed, mixed_model):
    table, labels = mixed
    mixed_model.save_model(package / "model.cbm")
    server = serve(f"file://{package}").wait_ready()
    rows = table.to_dict("records")
    answer = server.client.post("/predict", json={"instances": rows, "parameters": {"probabilities": True}})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["predictions"] == mixed_model.predict(table).ravel().tolist()
    assert told["classes"] == sorted(set(labels))
    np.testing.assert_allclose(told["probabilities"], mixed_model.predict_proba(table), rtol=1e-9)
    tensors = [
        {
            "name": name,
            "shape": [len(table)],
            "datatype": {"float64": "FP64", "int64": "INT64"}.get(str(table[name].dtype), "BYTES"),
            "data": table[name].tolist(),
        }
        for name in table
    ]
    over_v2 = server.client.post("/v2/models/model/infer", json={"inputs": tensors})
    assert over_v2.json()["outputs"][0]["data"] == told["predictions"]


def test_a_number_that_is_missing_is_what_it_was_in_training(loaded, package, mixed, mixed_model):
    table, _ = mixed
    mixed_model.save_model(package / "model.cbm")
    rows = table.to_dict("records")[:2]
    outputs = predict(loaded(package), [{**row, "alcohol": None} for row in rows], probabilities=True)
    missing = table[:2].assign(alcohol=math.nan)
    np.testing.assert_allclose(outputs["predict_proba"], mixed_model.predict_proba(missing), rtol=1e-9)


@pytest.mark.parametrize("zone", [2, 2.0, "2"])
def test_a_category_in_numbers_may_be_written_as_text(loaded, package, mixed, mixed_model, zone):
    table, _ = mixed
    mixed_model.save_model(package / "model.cbm")
    row = table.to_dict("records")[0] | {"zone": zone, "strength": "never seen"}
    outputs = predict(loaded(package), [row], probabilities=True)
    wanted = mixed_model.predict_proba(table[:1].assign(zone=2, strength="never seen"))
    np.testing.assert_allclose(outputs["predict_proba"], wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        pytest.param({"strength": None}, "instances[1].strength", "got null", id="a category that is missing"),
        pytest.param({"zone": None}, "instances[1].zone", "got null", id="a category in numbers that is missing"),
        pytest.param({"zone": 1.5}, "instances[1].zone", "got 1.5", id="half a category"),
        pytest.param({"zone": [1]}, "instances[1].zone", "got [1]", id="a list for a category"),
        pytest.param({"note": None}, "instances[1].note", "got null", id="a text that is missing"),
        pytest.param({"note": 7}, "instances[1].note", "got 7", id="a number for a text"),
        pytest.param({"alcohol": "much"}, "instances[1].alcohol", "expected a number", id="a text for a number"),
    ],
)
def test_a_value_that_the_model_cannot_take_is_named(loaded, package, mixed, mixed_model, change, field, said):
    table, _ = mixed
    mixed_model.save_model(package / "model.cbm")
    first, second = table.to_dict("records")[:2]
    found = loaded(package)
    with pytest.raises(InvalidInput) as caught:
        predict(found, [first, second | change])
    assert caught.value.problems[0].field == field
    assert said in caught.value.problems[0].message


def test_model_yaml_says_which_categories_there_are(loaded, package, mixed, mixed_model):
    table, _ = mixed
    mixed_model.save_model(package / "model.cbm")
    kinds = {"strength": "string", "zone": "int64", "note": "string"}
    features = [{"name": name, "dtype": kinds.get(name, "float64")} for name in table]
    features[2]["categories"] = ["low", "middle", "high"]
    (package / "model.yaml").write_text(yaml.safe_dump({"input_features": features}))
    found = loaded(package)
    rows = table.to_dict("records")
    assert predict(found, rows)["predict"].tolist() == mixed_model.predict(table).ravel().tolist()
    with pytest.raises(InvalidInput, match="expected one of"):
        predict(found, [rows[0] | {"strength": "never seen"}])


def test_an_mlflow_folder_is_served(loaded, package):
    data = load_wine()
    model = catboost.CatBoostClassifier(**QUIET).fit(data.data, data.target)
    model.save_model(package / "model.cb")
    flavor = {"catboost_version": "1.2", "data": "model.cb", "model_type": "CatBoostClassifier", "save_format": "cbm"}
    (package / "MLmodel").write_text(yaml.safe_dump({"flavors": {"catboost": flavor, "python_function": {}}}))
    outputs = predict(loaded(package), data.data.tolist())
    assert outputs["predict"].tolist() == model.predict(data.data).ravel().tolist()


def test_half_a_file_is_told_by_its_reason(loaded, package, mixed_model):
    path = package / "model.cbm"
    mixed_model.save_model(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(StartError, match="is no CatBoost model") as caught:
        loaded(package)
    assert caught.value.reason == "ArtifactCorrupt"
    assert caught.value.hint


def test_embeddings_as_features_are_refused(loaded, package):
    rows = [[[0.1 * place, 0.2, 0.3], float(place)] for place in range(30)]
    pool = catboost.Pool(rows, [place % 2 for place in range(30)], embedding_features=[0])
    catboost.CatBoostClassifier(**QUIET).fit(pool).save_model(package / "model.cbm")
    with pytest.raises(StartError, match="embeddings") as caught:
        loaded(package)
    assert caught.value.reason == "LoadFailed"
