"""A real server explains real packages, and serves those that it cannot explain."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.neighbors import KNeighborsClassifier
from waiting import wait_until

CANCER, IRIS = load_breast_cancer(), load_iris()


def write_about(folder, names, rows, *, profile=True):
    """A model.yaml with the features, and the profile of these rows."""
    about = {"version": "1", "input_features": [{"name": name} for name in names]}
    if profile:
        about["reference_profile"] = {}
        for name, column in zip(names, rows.T, strict=True):
            counts, edges = np.histogram(column, 10)
            about["reference_profile"][name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    (folder / "model.yaml").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """XGBoost's file, and the model that it was saved from."""
    folder = tmp_path_factory.mktemp("trees")
    model = xgboost.XGBClassifier(n_estimators=20).fit(CANCER.data, CANCER.target)
    model.save_model(folder / "model.json")
    names = [name.replace(" ", "_") for name in CANCER.feature_names]
    write_about(folder, names, CANCER.data)
    return folder, model, names


def test_a_package_of_xgboost_is_explained_by_all_workers(serve, trees):
    folder, model, names = trees
    server = serve(f"file://{folder}", name="m", workers=2, explanations=True).wait_ready()
    wait_until(lambda: server.client.get("/explain/importance").status_code == 200)
    rows = CANCER.data[:20]
    answers = [server.client.post("/explain", json={"instances": rows.tolist()}).json() for _ in range(4)]
    assert answers == [answers[0]] * 4
    expected = model.get_booster().predict(xgboost.DMatrix(rows), pred_contribs=True)
    found = [[row["contributions"][name] for name in names] for row in answers[0]["explanations"]]
    np.testing.assert_allclose(found, expected[:, :-1], atol=1e-6)
    outputs = np.array([row["output"] for row in answers[0]["explanations"]])
    np.testing.assert_allclose(1 / (1 + np.exp(-outputs)), model.predict_proba(rows)[:, 1], atol=1e-5)
    assert (answers[0]["method"], answers[0]["scale"], answers[0]["classes"]) == ("TreeSHAP", "raw score", [1])
    metrics = server.client.get("/metrics").text
    assert 'modeldeploy_explanations_total{code="200",model="m"' in metrics
    assert metrics.count("modeldeploy_feature_importance{") == len(names)


def test_a_model_without_a_profile_is_served_and_says_why_it_is_not_explained(serve, tmp_path):
    joblib.dump(KNeighborsClassifier().fit(IRIS.data, IRIS.target), tmp_path / "model.joblib")
    write_about(tmp_path, ["a", "b", "c", "d"], IRIS.data, profile=False)
    server = serve(f"file://{tmp_path}", trusted=True, explanations=True).wait_ready()
    body = {"instances": IRIS.data[:1].tolist()}
    assert server.client.post("/predict", json=body).json()["predictions"] == [0]
    refused = server.client.post("/explain", json=body)
    sentence = (
        "this model cannot be explained: its package has no reference_profile for a, b, c, d: describe the training "
        "data in model.yaml"
    )
    assert (refused.status_code, refused.json()["error"]) == (404, sentence)
    assert "explain" not in " ".join(server.client.get("/openapi.json").json()["paths"])
    assert "modeldeploy_explanations" not in server.client.get("/metrics").text


def test_everything_else_is_estimated(serve, tmp_path):
    model = KNeighborsClassifier(15).fit(IRIS.data, IRIS.target)
    joblib.dump(model, tmp_path / "model.joblib")
    write_about(tmp_path, ["a", "b", "c", "d"], IRIS.data)
    server = serve(f"file://{tmp_path}", trusted=True, explanations=True, explanation_max_rows=2).wait_ready()
    answer = server.client.post("/explain", json={"instances": IRIS.data[:2].tolist()}).json()
    assert (answer["method"], answer["scale"], answer["classes"]) == ("permutation sampling", "probability", [0, 1, 2])
    for row, expected in zip(answer["explanations"], model.predict_proba(IRIS.data[:2]), strict=True):
        total = np.add(row["base_value"], np.sum(list(row["contributions"].values()), axis=0))
        np.testing.assert_allclose(total, expected, atol=1e-9)
        assert 0 < np.max(list(row["standard_errors"].values())) < 0.1
    assert server.client.post("/explain", json={"instances": IRIS.data[:3].tolist()}).status_code == 413
