"""Whatever comes, the answer is right or 4xx with a message: thousands of requests, made up and mutated."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_server.auth import AllowAll
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.http.app import create_app
from model_server.http.body import RequestLimits
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.loader import load
from model_server.monitoring.monitor import Monitor
from model_server.settings import read_settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer

# The largest numbers that JSON can hold overflow inside scikit-learn, which warns and answers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]

# More with `FUZZ=1000000 pytest tests/integration/server/test_fuzz.py`; another seed with FUZZ_SEED.
MUTATIONS = int(os.environ.get("FUZZ", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
EXAMPLES = max(100, MUTATIONS // 100)
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class InProcess:
    """The real application with the real model, called without a socket."""

    def __init__(self, uri: str, folder: Path) -> None:
        # Not asyncio.Runner, whose care for Ctrl-C costs each request more than its answer does.
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start(uri, folder))

    async def _start(self, uri: str, folder: Path) -> None:
        given = read_settings(
            {"MODEL_SERVER_STORAGE_URI": uri, "MODEL_SERVER_TRUSTED": "1", "MODEL_SERVER_NAME": "wine"}
        )
        loaded = load(given, folder, environ={}, report=lambda phase, text: None)
        self.lifecycle, telemetry = Lifecycle(), Telemetry()
        limits = BatchLimits(max_rows=64, max_delay_seconds=0, max_queue=100, timeout_seconds=30)
        self.lifecycle.serve(
            ServingModel(loaded, Batcher(loaded.model, limits, telemetry), Monitor(loaded, given, telemetry))
        )
        self.plane = DataPlane(self.lifecycle, telemetry, PropagateOnlyTracer(), AllowAll(), name="wine", max_rows=100)
        self.app = create_app(self.plane, telemetry, RequestLimits(max_bytes=1_000_000, timeout_seconds=30))

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": pairs}
        self.loop.run_until_complete(self.app(scope, receive, send))
        return sent[0]["status"], sent[1]["body"]

    def close(self) -> None:
        async def end() -> None:
            self.plane.close()
            self.lifecycle.close()

        self.loop.run_until_complete(end())
        self.loop.close()


@pytest.fixture(scope="module")
def served(wine, tmp_path_factory):
    server = InProcess(wine.uri, tmp_path_factory.mktemp("fuzz"))
    yield server
    server.close()


def assert_polite(status: int, body: bytes) -> None:
    assert status == 200 or 400 <= status < 500, body
    document = orjson.loads(body)
    if status != 200:
        assert document["error"]
        assert document["reason"]
        assert "Traceback" not in document["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["alcohol", "ash", "hue", "nothing", ""])
VALUES = st.floats() | st.integers() | JSON
PATHS = st.sampled_from(["/predict", "/v1/models/wine:predict", "/v2/models/wine/infer", "/invocations", "/feedback"])


@MANY
@given(PATHS, st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
def test_any_bytes(served, path, body):
    assert_polite(*served.post(path, body))


@MANY
@given(
    st.sampled_from(["/predict", "/v1/models/wine:predict"]),
    st.lists(
        st.lists(st.floats(-10, 200) | VALUES, min_size=12, max_size=14)
        | st.dictionaries(NAMES, VALUES, max_size=4)
        | JSON,
        max_size=3,
    ),
    st.none() | st.dictionaries(st.sampled_from(["probabilities", "x"]), JSON, max_size=2),
)
def test_rows_are_predicted_or_named(served, wine, path, instances, parameters):
    document = {"instances": instances} if parameters is None else {"instances": instances, "parameters": parameters}
    status, body = served.post(path, json.dumps(document).encode("utf-8", "surrogatepass"))
    assert_polite(status, body)
    if status == 200:
        rows = np.array(instances, dtype=float)
        assert orjson.loads(body)["predictions"] == wine.model.predict(rows).tolist()


TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "alcohol", "input-0"]) | JSON,
        "shape": st.sampled_from([[1, 13], [2, 13], [13], [0, 13], [1, 1]])
        | st.lists(st.integers(-1, 2**40), max_size=4)
        | JSON,
        "datatype": st.sampled_from(["FP64", "FP32", "INT64", "INT8", "UINT8", "BOOL", "BYTES", "FP16"]) | JSON,
        "data": st.lists(VALUES, min_size=12, max_size=14)
        | st.lists(st.floats(0, 50), min_size=13, max_size=13)
        | JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), JSON, max_size=2) | JSON,
    },
)


@MANY
@given(
    st.lists(TENSOR, max_size=3) | JSON,
    st.none() | st.lists(st.dictionaries(st.sampled_from(["name", "parameters"]), JSON, max_size=2), max_size=2) | JSON,
    st.none() | JSON,
    st.none() | st.binary(max_size=120),
)
def test_tensors_are_inferred_or_named(served, inputs, outputs, identifier, tail):
    document = {"inputs": inputs}
    for name, value in (("outputs", outputs), ("id", identifier)):
        if value is not None:
            document[name] = value
    head = json.dumps(document).encode("utf-8", "surrogatepass")
    if tail is None:
        assert_polite(*served.post("/v2/models/wine/infer", head))
    else:
        headers = {"inference_header_content_length": str(len(head))}
        assert_polite(*served.post("/v2/models/wine/infer", head + tail, **headers))


@MANY
@given(
    st.dictionaries(
        st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances", "x"]), JSON, max_size=2
    )
    | st.fixed_dictionaries(
        {
            "dataframe_split": st.fixed_dictionaries(
                {"columns": st.lists(NAMES, max_size=3) | JSON, "data": st.lists(JSON, max_size=3)}
            )
        }
    ),
    st.sampled_from(["application/json", "text/csv", "text/plain", "application/json; charset=utf-8", "\xff"]),
)
def test_mlflow_forms_are_scored_or_named(served, document, media_type):
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    assert_polite(*served.post("/invocations", body, content_type=media_type))


def test_mlflows_forms_give_the_models_predictions(served, wine):
    rows = wine.rows[:5]
    split = {"dataframe_split": {"columns": wine.names, "data": rows.tolist()}}
    records = {"dataframe_records": wine.objects(rows)}
    columns = {"inputs": {name: rows[:, index].tolist() for index, name in enumerate(wine.names)}}
    expected = wine.model.predict(rows).tolist()
    for document in (split, records, columns, {"inputs": rows.tolist()}, {"instances": rows.tolist()}):
        status, body = served.post("/invocations", orjson.dumps(document))
        assert (status, orjson.loads(body)["predictions"]) == (200, expected)
    table = "\n".join([",".join(wine.names), *(",".join(map(str, row)) for row in rows.tolist())])
    status, body = served.post("/invocations", table.encode(), content_type="text/csv")
    assert (status, orjson.loads(body)["predictions"]) == (200, expected)


POOL: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e308, 1e-320, 2**63, -(2**63), 2**64, "", "a", "1", "\u0000", "é" * 50, [], {},
    [[]], [None], {"a": 1}, [1, [2]], "FP64", "INT64", "BYTES", "alcohol", "predict", [1, 13], [0], [-1], ["x"],
]  # fmt: skip


def valid_requests(wine: Any) -> list[tuple[str, Any, bytes]]:
    """Path, document and binary tail of requests that are right."""
    rows = wine.rows[:2]
    tensor = {"name": "x", "shape": [2, 13], "datatype": "FP64"}
    typed = tensor | {"data": rows.reshape(-1).tolist()}
    binary = tensor | {"parameters": {"binary_data_size": rows.nbytes}}
    outputs = [{"name": "predict_proba", "parameters": {"binary_data": True}}, {"name": "predict"}]
    return [
        ("/predict", {"instances": wine.objects(rows), "parameters": {"probabilities": True}}, b""),
        ("/v1/models/wine:predict", {"instances": rows.tolist()}, b""),
        ("/v2/models/wine/infer", {"id": "a", "inputs": [typed], "outputs": outputs}, b""),
        ("/v2/models/wine/infer", {"inputs": [binary], "parameters": {"binary_data_output": True}}, rows.tobytes()),
        ("/invocations", {"dataframe_split": {"columns": wine.names, "data": rows.tolist()}}, b""),
        ("/feedback", {"prediction": 1, "label": 1, "conversion": True}, b""),
    ]


def mutated(document: Any, rng: random.Random) -> Any:
    """The document with one node replaced, removed, doubled or renamed."""
    if not isinstance(document, dict | list) or not document or rng.random() < 0.15:
        return rng.choice(POOL)
    if isinstance(document, list):
        place, way = rng.randrange(len(document)), rng.random()
        inside = [mutated(document[place], rng)] if way < 0.7 else [] if way < 0.85 else [document[place]] * 2
        return [*document[:place], *inside, *document[place + 1 :]]
    name, way = rng.choice(list(document)), rng.random()
    rest = {key: value for key, value in document.items() if key != name}
    if way < 0.7:
        return rest | {name: mutated(document[name], rng)}
    return rest if way < 0.85 else rest | {name + "x": document[name]}


def damaged(body: bytes, rng: random.Random) -> bytes:
    """The bytes cut short, or with one of them changed."""
    place = rng.randrange(len(body))
    return body[:place] if rng.random() < 0.5 else body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]


def test_ten_thousand_mutations_of_what_is_right(served, wine):
    rng = random.Random(SEED)
    requests = valid_requests(wine)
    for path, document, tail in requests:
        head = orjson.dumps(document)
        headers = {"inference_header_content_length": str(len(head))} if tail else {}
        assert served.post(path, head + tail, **headers)[0] == 200
    statuses: Counter[int] = Counter()
    for _ in range(MUTATIONS):
        path, document, tail = rng.choice(requests)
        for _ in range(rng.randint(1, 3)):
            document = mutated(document, rng)
        body = json.dumps(document).encode() + tail
        headers = {"inference_header_content_length": str(len(body) - len(tail))} if tail else {}
        if rng.random() < 0.2:
            body = damaged(body, rng)
        status, answer = served.post(path, body, **headers)
        statuses[status] += 1
        # An answer may be in bytes; a refusal never is.
        if status != 200:
            assert_polite(status, answer)
    # Both ways are really taken: what is still right is answered, and most is not.
    assert statuses[200] > MUTATIONS / 100
    assert statuses[422] > MUTATIONS / 5
