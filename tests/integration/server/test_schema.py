"""The server does what its OpenAPI document says: schemathesis makes requests from it and judges the answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", f"{server.url}/openapi.json"]
    options = ["--max-examples", str(EXAMPLES), "--seed", SEED, "--phases", "examples,coverage,fuzzing", *LEFT_OUT]
    judged = subprocess.run(
        [*command, *options, "--request-timeout", "10", "--no-color", "--continue-on-failure"],
        # Its client looks through all variables for proxies, at each request.
        cwd=tmp_path, capture_output=True, text=True, env={"HOME": str(tmp_path), "NO_PROXY": "*"},
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-8000:] + judged.stderr
    assert f"Tested: {23 if LEFT_OUT else 27}" in judged.stdout, judged.stdout
    assert server.phase() == "ready"
