"""Models that answer numbers, with their classes in model.yaml: they answer as classifiers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.naive_bayes import GaussianNB

from model_server.domain.model import LoadedModel
from model_server.errors import DatasetInvalid
from model_server.evaluate import evaluate
from model_server.loader import load
from model_server.settings import read_settings

TUMOURS, WINE = load_breast_cancer(), load_wine()
NAMES = ["yes", "no", "maybe"]


def lightgbm_text(path: Path, data: Any, objective: str, **parameters: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    given = {"objective": objective, "verbose": -1, "num_threads": 1, **parameters}
    booster = lightgbm.train(given, lightgbm.Dataset(data.data, data.target), 5)
    booster.save_model(path / "model.txt")
    return booster.predict(data.data)


def lightgbm_pickle(path: Path, data: Any, objective: str, **parameters: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    rated = lightgbm_text(path, data, objective, **parameters)
    joblib.dump(lightgbm.Booster(model_file=path / "model.txt"), path / "model.joblib")
    (path / "model.txt").unlink()
    return rated


def xgboost_json(path: Path, data: Any, objective: str, **parameters: Any) -> Any:
    xgboost = pytest.importorskip("xgboost")
    table = xgboost.DMatrix(data.data, data.target)
    booster = xgboost.train({"objective": objective, "nthread": 1, **parameters}, table, 5)
    booster.save_model(path / "model.json")
    return booster.predict(table)


def onnx_graph(path: Path, data: Any, operator: str, columns: int = 1) -> Any:
    """A graph of one layer, whose only output is what the operator gives."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).normal(scale=0.01, size=(data.data.shape[1], columns)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["raw"])]
    nodes += [helper.make_node(operator, ["raw"], ["last"]), helper.make_node("Identity", ["last"], ["rated"])]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", floats, ["rows", data.data.shape[1]])],
        [helper.make_tensor_value_info("rated", floats, ["rows", columns])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, path / "model.onnx")
    session = onnxruntime.InferenceSession(path / "model.onnx")
    return session.run(None, {"x": data.data.astype(np.float32)})[0]


def served(tmp_path: Path, categories: list[Any] | None, *, post: str = "", **settings: str) -> LoadedModel:
    dtype = "string" if categories and isinstance(categories[0], str) else "int64"
    about = {"output_features": [{"name": "kind", "dtype": dtype, "categories": categories}]} if categories else {}
    (tmp_path / "package" / "model.yaml").write_text(yaml.safe_dump(about))
    if post:
        (tmp_path / "package" / "post.py").write_text(post)
    environ = {"MODEL_SERVER_STORAGE_URI": f"file://{tmp_path}/package", "MODEL_SERVER_TRUSTED": "true", **settings}
    return load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)


def answers(found: LoadedModel, data: Any, *, probabilities: bool = True) -> dict[str, Any]:
    inputs = found.adapter.from_instances(data.data.tolist(), numbers_only=True)
    return found.model.predict(inputs, probabilities=probabilities)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    return tmp_path / "package"


@pytest.mark.parametrize(
    ("make", "data", "arguments", "categories"),
    [
        pytest.param(lightgbm_text, TUMOURS, {"objective": "binary"}, [0, 1], id="LightGBM, two classes"),
        pytest.param(lightgbm_text, TUMOURS, {"objective": "binary"}, NAMES[:2], id="LightGBM, classes of text"),
        pytest.param(lightgbm_pickle, TUMOURS, {"objective": "binary"}, [0, 1], id="LightGBM, a pickled Booster"),
        pytest.param(
            *(lightgbm_text, TUMOURS, {"objective": "multiclass", "num_class": 2}, [0, 1]),
            id="LightGBM, two classes as if they were many",
        ),
        pytest.param(
            lightgbm_text, WINE, {"objective": "multiclass", "num_class": 3}, NAMES, id="LightGBM, three classes"
        ),
        pytest.param(xgboost_json, TUMOURS, {"objective": "binary:logistic"}, [0, 1], id="XGBoost, two classes"),
        pytest.param(
            xgboost_json, WINE, {"objective": "multi:softprob", "num_class": 3}, NAMES, id="XGBoost, three classes"
        ),
        pytest.param(onnx_graph, TUMOURS, {"operator": "Sigmoid"}, NAMES[:2], id="ONNX, a sigmoid"),
        pytest.param(onnx_graph, WINE, {"operator": "Softmax", "columns": 3}, NAMES, id="ONNX, a softmax"),
    ],
)
def test_probabilities_tell_the_class(tmp_path, package, make, data, arguments, categories) -> None:
    rated = make(package, data, **arguments)
    matrix = rated if rated.ndim == 2 and rated.shape[1] > 1 else np.column_stack([1 - rated, rated])
    found = served(tmp_path, categories)
    outputs = answers(found, data)
    assert next(iter(outputs)) == "predict"
    assert outputs["predict"].tolist() == np.array(categories)[matrix.argmax(axis=1)].tolist()
    assert outputs[found.model.probability_output].tolist() == matrix.tolist()
    assert list(answers(found, data, probabilities=False)) == ["predict"]
    assert found.model.classes == found.class_labels == tuple(categories)
    labels = np.array(categories)[data.target].tolist()
    rows = [dict(enumerate(row.tolist())) | {"kind": label} for row, label in zip(data.data, labels, strict=True)]
    names = [feature.name for feature in found.adapter.features]
    rows = [{names[key] if names and key != "kind" else str(key): row[key] for key in row} for row in rows]
    scores, _ = evaluate(found, iter(rows), "kind", ["accuracy", "log-loss"])
    right = float(np.mean(outputs["predict"] == labels))
    assert scores.metrics()["accuracy"] == pytest.approx(right)
    assert scores.metrics()["log-loss"] > 0


@pytest.mark.parametrize(
    ("make", "data", "arguments", "of"),
    [
        pytest.param(
            *(lightgbm_text, WINE, {"objective": "multiclassova", "num_class": 3}, lambda rated: rated.argmax(axis=1)),
            id="LightGBM, one against all",
        ),
        pytest.param(
            xgboost_json, TUMOURS, {"objective": "binary:logitraw"}, lambda rated: rated > 0, id="XGBoost, raw scores"
        ),
        pytest.param(
            *(onnx_graph, WINE, {"operator": "Relu", "columns": 3}, lambda rated: rated.argmax(axis=1)),
            id="ONNX, numbers of a scale that nothing tells",
        ),
    ],
)
def test_scores_tell_the_class_and_are_no_probabilities(tmp_path, package, make, data, arguments, of) -> None:
    rated = make(package, data, **arguments)
    categories = NAMES[: len(data.target_names)]
    found = served(tmp_path, categories)
    outputs = answers(found, data)
    assert outputs["predict"].tolist() == np.array(categories)[of(rated).astype(int)].tolist()
    assert found.model.probability_output == ""
    assert outputs[found.score_output].tolist() == rated.tolist()


@pytest.mark.parametrize(
    ("objective", "data", "parameters"),
    [
        pytest.param("multi:softmax", WINE, {"num_class": 3}, id="of three"),
        pytest.param("binary:hinge", TUMOURS, {}, id="of two"),
    ],
)
def test_numbers_of_classes_are_their_names(tmp_path, package, objective, data, parameters) -> None:
    rated = xgboost_json(package, data, objective, **parameters)
    categories = NAMES[: len(data.target_names)]
    outputs = answers(served(tmp_path, categories), data)
    assert outputs["predict"].tolist() == [categories[int(place)] for place in rated]
    assert list(outputs) == ["predict"]


@pytest.mark.parametrize(
    ("make", "arguments", "categories", "post"),
    [
        pytest.param(lightgbm_text, {"objective": "binary"}, None, "", id="no classes are listed"),
        pytest.param(lightgbm_text, {"objective": "binary"}, NAMES, "", id="three classes, and one probability"),
        pytest.param(lightgbm_text, {"objective": "regression"}, [0, 1], "", id="the number is of no known scale"),
        pytest.param(
            *(lightgbm_text, {"objective": "binary"}, [0, 1], "def transform(outputs): return outputs"),
            id="post.py has the last word",
        ),
    ],
)
def test_numbers_stay_numbers(tmp_path, package, make, arguments, categories, post) -> None:
    rated = make(package, TUMOURS, **arguments)
    outputs = answers(served(tmp_path, categories, post=post), TUMOURS)
    assert outputs["predict"].tolist() == rated.tolist()
    assert list(outputs) == ["predict"]


@pytest.mark.parametrize(
    ("about", "post", "said"),
    [
        pytest.param("{name: kind, dtype: string}", "", "or list the classes as categories", id="no classes"),
        pytest.param(
            "{name: kind, dtype: string, categories: [a, b]}", "", "Write dtype: int64; or", id="classes of text"
        ),
        pytest.param("{name: kind, dtype: int64, categories: [0, 1]}", "", "", id="numbers"),
        pytest.param(
            "{name: kind, dtype: string}", "def transform(outputs): return ['a'] * len(outputs)", "", id="a post.py"
        ),
    ],
)
def test_numbers_that_model_yaml_calls_texts_are_warned_of(tmp_path, package, caplog, about, post, said) -> None:
    joblib.dump(GaussianNB().fit(TUMOURS.data, TUMOURS.target), package / "model.joblib")
    (package / "model.yaml").write_text(f"output_features: [{about}]")
    if post:
        (package / "post.py").write_text(post)
    environ = {"MODEL_SERVER_STORAGE_URI": f"file://{package}", "MODEL_SERVER_TRUSTED": "true"}
    load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)
    warnings = [one for one in caplog.messages if "output_features call kind a string" in one]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_who_asks_for_accuracy_without_classes_is_told_where_to_list_them(tmp_path, package) -> None:
    lightgbm_text(package, TUMOURS, "binary")
    found = served(tmp_path, None)
    with pytest.raises(DatasetInvalid, match="the model answers numbers") as refused:
        evaluate(found, iter([]), "kind", ["accuracy"])
    assert "categories of the first" in refused.value.hint


@pytest.mark.parametrize("accelerate", ["", "onnx"])
def test_an_accelerated_booster_answers_the_same(tmp_path, package, accelerate) -> None:
    pytest.importorskip("onnxmltools")
    rated = lightgbm_text(package, TUMOURS, "binary")
    outputs = answers(served(tmp_path, NAMES[:2], MODEL_SERVER_ACCELERATE=accelerate), TUMOURS)
    assert outputs["predict"].tolist() == np.array(NAMES)[(rated > 0.5).astype(int)].tolist()
    assert np.allclose(outputs["predict_proba"][:, 1], rated, atol=1e-4)


def test_explanations_are_about_the_listed_classes(tmp_path, package) -> None:
    rated = lightgbm_text(package, TUMOURS, "binary")
    found = served(tmp_path, NAMES[:2], MODEL_SERVER_EXPLANATIONS="true")
    assert found.explainer is not None, found.unexplained
    assert found.explainer.kind.classes == ("no",)
    assert found.explainer.kind.method == "TreeSHAP"
    inputs = found.adapter.from_instances(TUMOURS.data[:1].tolist(), numbers_only=True)
    explanation = next(step for step in found.explainer.steps(inputs) if step is not None)
    assert 1 / (1 + np.exp(-explanation.output[0, 0])) == pytest.approx(rated[0])
