"""API keys with limits, on every way to a prediction."""

from __future__ import annotations

import grpc
import pytest
from free_ports import free_port

from model_server.grpc.messages import SERVICE, message

BODY = {"instances": [[0.5] * 13]}
TENSOR = {"name": "x", "shape": [1, 13], "datatype": "FP64", "data": [0.5] * 13}
#: A key for each way, all with one request a minute.
WAYS = {
    "predict": ("/predict", BODY),
    "v1": ("/v1/models/wine:predict", BODY),
    "v2": ("/v2/models/wine/infer", {"inputs": [TENSOR]}),
    "mlflow": ("/invocations", {"inputs": [[0.5] * 13]}),
    "explain": ("/explain", BODY),
}


@pytest.fixture(scope="module")
def limited(run_server, wine, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys")
    for name in (*WAYS, "labels", "grpc", "free"):
        (keys / name).write_text(f"key of {name}")
    limits = ",".join(f"{name}:rate=0.016:burst=1" for name in (*WAYS, "labels", "grpc"))
    port = free_port()
    settings = {"name": "wine", "trusted": True, "explanations": True, "grpc_port": port, "workers": 2}
    folder = tmp_path_factory.mktemp("server")
    with run_server(folder, wine.uri, auth_dir=keys, auth_limits=limits, **settings) as server:
        server.grpc_port = port
        yield server.wait_ready()


@pytest.mark.parametrize("name", WAYS)
def test_a_key_over_its_limit_is_told_when_to_come_again(limited, name):
    path, body = WAYS[name]
    key = {"x-api-key": f"key of {name}"}
    assert limited.client.post(path, json=body, headers=key).status_code == 200
    # A request that is not even read: whatever it says, the limit is what is wrong with it.
    answer = limited.client.post(path, content=b"{", headers=key)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 63
    said = answer.json()
    assert said["reason"] == "TooManyRequests"
    assert said["error"] == "this API key may ask 0.016 times a second, 1 at once"
    assert limited.client.post(path, json=body, headers={"x-api-key": "key of free"}).status_code == 200
    metrics = limited.client.get("/metrics").text
    assert f'key="{name}",model="wine",outcome="rate",revision="",version="3"}} 1.0' in metrics
    assert 'code="429"' not in metrics


def test_a_key_may_send_as_much_feedback_as_it_may_ask(limited):
    key, label = {"x-api-key": "key of labels"}, {"prediction": 1, "label": 1}
    assert limited.client.post("/predict", json=BODY, headers=key).status_code == 200
    assert limited.client.post("/feedback", json=label, headers=key).status_code == 200
    refused = limited.client.post("/feedback", content=b"{", headers=key)
    assert (refused.status_code, refused.json()["reason"]) == (429, "TooManyRequests")
    metrics = limited.client.get("/metrics").text
    assert 'key="labels",model="wine",outcome="feedback",revision="",version="3"} 1.0' in metrics
    assert limited.client.post("/feedback", json=label, headers={"x-api-key": "none"}).status_code == 401


def test_grpc_has_a_code_for_it(limited):
    fields = {"model_name": "wine", "inputs": [{**TENSOR, "data": None, "contents": {"fp64_contents": [0.5] * 13}}]}
    fields["inputs"][0].pop("data")
    with grpc.insecure_channel(f"127.0.0.1:{limited.grpc_port}") as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        request, metadata = message("ModelInferRequest")(**fields), (("x-api-key", "key of grpc"),)
        assert infer(request, timeout=10, metadata=metadata).model_name == "wine"
        with pytest.raises(grpc.RpcError) as refused:
            infer(request, timeout=10, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_document_names_the_limit_where_there_is_one(limited, wine_server):
    def codes(client):
        paths = client.get("/openapi.json").json()["paths"]
        return {path for path, one in paths.items() if "429" in one.get("post", {}).get("responses", ())}

    assert codes(limited.client) >= {"/feedback", *(path for path, _ in WAYS.values())}
    assert not codes(wine_server.client)
