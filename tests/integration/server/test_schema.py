"""The server does what its OpenAPI document says: schemathesis makes requests from it and judges the answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

CONFIG = Path(__file__).with_name("schemathesis.toml")

# As in test_fuzz.py: more with `make fuzz`, others with FUZZ_SEED.
EXAMPLES = max(3, int(os.environ.get("FUZZ", "0")) // 2000)
SEED = os.environ.get("FUZZ_SEED", "1")
# The same decoders and schemas as `/v2/models/churn/infer` and `/v1/models/churn:predict`, and the largest of all: for
# `make fuzz` alone.
SAME = (
    "/v1/models/churn/versions/7:predict",
    *(f"/v2/models/churn/{path}" for path in ("infer_stream", "versions/7/infer", "versions/7/infer_stream")),
)
LEFT_OUT = [] if "FUZZ" in os.environ else [word for path in SAME for word in ("--exclude-path", path)]

MODEL = """
import numpy as np

def load_model(path): return 1
def predict(model, inputs): return np.array([int(plan == "paid") for plan in inputs["plan"]])
"""

METADATA = """
version: "7"
input_features:
- {name: age, dtype: int64, range: [0, 130], example: 31, description: Age in years}
- {name: plan, dtype: string, categories: [free, paid], example: free}
- {name: spend, nullable: true, example: 12.5}
- {name: is new, dtype: bool, example: true}
output_features:
- {name: leaves, dtype: int64, categories: [0, 1]}
"""

# A model that is explained by sampling, with features of the same kinds.
SUM = """
import numpy as np

def load_model(path): return 1
def predict(model, inputs):
    return np.where(inputs["plan"] == "paid", 2.0, 1.0) * inputs["age"] + np.nan_to_num(inputs["spend"])
"""

PROFILE = """
reference_profile:
  age: {edges: [0, 30, 60, 100], counts: [5, 5, 2]}
  plan: {categories: {free: 3, paid: 1}}
  spend: {edges: [0, 10, 20], counts: [1, 1]}
  is new: {categories: {"true": 1, "false": 2}}
"""


@pytest.fixture(scope="module")
def server(run_server, tmp_path_factory):
    """A server of a package with a feature of every kind."""
    folder = tmp_path_factory.mktemp("churn")
    (folder / "model.py").write_text(MODEL)
    (folder / "model.yaml").write_text(METADATA)
    log = tmp_path_factory.mktemp("server")
    with run_server(log, f"file://{folder}", name="churn", trusted=True, max_rows=20) as running:
        yield running.wait_ready()


def test_every_route_is_described(server):
    described = server.client.get("/openapi.json").json()["paths"]
    known = server.client.get("/nothing").json()["hint"].removeprefix("Known paths: ").removesuffix(".").split(", ")
    wanted = {path.replace("{model}", "churn").replace("{version}", "7") for path in known}
    pages = {"/docs", "/redoc", "/openapi.json", "/docs-assets/{file}"}
    # Other servers' paths: of a page, of the same answer, and of one that takes any body.
    pages |= {"/v2/docs", "/v2/", "/v2/models/stats", "/v2/repository/index"}
    # There is one model: loading it does nothing, and unloading is refused.
    pages |= {f"/v2/repository/models/churn/{verb}" for verb in ("load", "unload")}
    # In the document of an embedding model only.
    pages.add("/v1/embeddings")
    # And in that of a model that is explained.
    pages |= {"/explain", "/explain/importance"}
    pages |= {f"/v1/models/churn{version}:explain" for version in ("", "/versions/7")}
    assert set(described) == wanted - pages


def test_requests_made_from_the_document_are_answered_as_it_says(server, tmp_path):
    judge(server, tmp_path, LEFT_OUT, tested=23 if LEFT_OUT else 27)


def test_explanations_are_what_the_document_says(run_server, tmp_path):
    (tmp_path / "model.py").write_text(SUM)
    (tmp_path / "model.yaml").write_text(METADATA.partition("output_features")[0] + PROFILE)
    options = {"trusted": True, "max_rows": 20, "explanations": True, "explanation_budget": 256}
    with run_server(tmp_path, f"file://{tmp_path}", name="churn", **options) as running:
        running.wait_ready()
        wait_until(lambda: running.client.get("/explain/importance").status_code == 200)
        judge(running, tmp_path, ["--include-path-regex", "explain"], tested=4)


def judge(server, folder, choice, *, tested):
    """Let schemathesis send requests to the chosen operations of the document."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{server.url}/openapi.json"]
    options = ["--max-examples", str(EXAMPLES), "--seed", SEED, "--phases", "examples,coverage,fuzzing", *choice]
    judged = subprocess.run(
        [*command, *options, "--request-timeout", "10", "--no-color", "--continue-on-failure"],
        # Its client looks through all variables for proxies, at each request.
        cwd=folder, capture_output=True, text=True, env={"HOME": str(folder), "NO_PROXY": "*"},
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-8000:] + judged.stderr
    assert f"Tested: {tested}" in judged.stdout, judged.stdout
    assert server.phase() == "ready"
