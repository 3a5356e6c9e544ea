"""Each model of a pool has pages of its own: what they show as an example is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import joblib
import numpy as np
import pytest
from pooled import PoolOf, package
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

KEY = {"x-api-key": "s3cret"}
ROWS = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0], [3.0, 2.0]])
PAGES = "/v2/models/{}/"


def listed(folder: Path, name: str, model: Any) -> dict[str, Any]:
    own = folder / name
    own.mkdir()
    joblib.dump(model.fit(ROWS, [0, 0, 1, 1]), own / "model.joblib")
    profile = {one: {"edges": [0, 1, 3], "counts": [2, 2]} for one in ("width", "height")}
    inputs = [{"name": one, "dtype": "float64", "range": [0, 9], "example": 3} for one in profile]
    about = {"version": "7", "description": f"{name}!", "input_features": inputs, "reference_profile": profile}
    (own / "model.yaml").write_text(json.dumps(about))
    return {"name": name, "storageUri": own.as_uri(), "trusted": True}


@pytest.fixture
def running(pool: Callable[..., PoolOf], tmp_path: Path) -> PoolOf:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "a").write_text("s3cret")
    models = [listed(tmp_path, "rated", LinearSVC()), listed(tmp_path, "sure", LogisticRegression())]
    server = {"auth_dir": keys, "auth_limits": "a:concurrency=9", "explanations": True}
    return pool(*models, package(tmp_path, 1), server=server)


def test_every_example_of_each_model_is_answered(running: PoolOf) -> None:
    client = running.server.client
    shown = {}
    for name in ("rated", "sure", "m1"):
        document = client.get(f"{PAGES.format(name)}openapi.json", headers=KEY).json()
        bodies = {}
        for path, operations in document["paths"].items():
            assert f"/models/{name}" in path, "the pages are those of one model"
            for method, operation in operations.items():
                assert {"401", "404"} <= operation["responses"].keys(), path
                for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                    for title, example in body.get("examples", {}).items():
                        headers = {**KEY, "content-type": kind}
                        bodies[path, title] = client.request(method, path, json=example["value"], headers=headers)
                if method == "get":
                    assert client.get(path, headers=KEY).status_code == 200, path
        assert {answer.status_code for answer in bodies.values()} == {200}, (name, document)
        shown[name] = document, bodies
    document, bodies = shown["rated"]
    assert (document["info"]["title"], document["info"]["version"]) == ("rated", "7")
    assert document["info"]["description"].startswith("rated!")
    assert document["components"]["schemas"]["Row"]["properties"]["width"]["maximum"] == 9
    assert "429" in document["paths"]["/v1/models/rated:predict"]["post"]["responses"]
    assert bodies["/v1/models/rated:predict", "with-scores"].json()["scores"]
    _, bodies = shown["sure"]
    assert bodies["/v1/models/sure:predict", "with-probabilities"].json()["probabilities"]
    assert bodies["/v2/models/sure/versions/7/infer", "with-contributions-instead"].json()["outputs"]
    document, _ = shown["m1"]
    assert not [path for path in document["paths"] if "explain" in path or "/versions/" in path]


@pytest.mark.parametrize("page", ["docs", "redoc"])
def test_a_browser_asks_for_a_key_and_finds_the_scripts(running: PoolOf, page: str) -> None:
    client, place = running.server.client, PAGES.format("sure")
    refused = client.get(place + page)
    assert (refused.status_code, "www-authenticate" in refused.headers) == (401, True)
    shown = client.get(place + page, auth=("any", "s3cret"))
    assert shown.status_code == 200
    for script in re.findall(r'src="([^"]*\.js)"', shown.text):
        assert client.get(urljoin(place + page, script)).status_code == 200, script
    assert client.get(f"{PAGES.format('other')}openapi.json", headers=KEY).status_code == 404
