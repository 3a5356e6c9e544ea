"""The protocols as others' own clients speak them. Each is skipped where its client is not installed.

`make clients` installs them, in an environment of their own, and runs this file. Triton's and KServe's do not go
into one process: both register the protocol's messages.
"""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("binary", [pytest.param(True, id="bytes"), pytest.param(False, id="JSON")])
def test_tritons_http_client(wine_server, wine, binary):
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(f"127.0.0.1:{wine_server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("wine")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("wine")["inputs"][0]["shape"] == [-1, 13]
    given = http.InferInput("input-0", list(wine.rows.shape), "FP64")
    given.set_data_from_numpy(wine.rows, binary_data=binary)
    wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in ("predict", "predict_proba")]
    answer = client.infer("wine", [given], outputs=wanted, request_id="7")
    assert answer.get_response()["id"] == "7"
    assert answer.as_numpy("predict").tolist() == wine.model.predict(wine.rows).tolist()
    assert answer.as_numpy("predict_proba").tolist() == wine.model.predict_proba(wine.rows).tolist()
    plain = client.infer("wine", [given])
    assert plain.as_numpy("predict").tolist() == wine.model.predict(wine.rows).tolist()
    with pytest.raises(Exception, match="model 'other' is not served here"):
        client.infer("other", [given])
    client.close()


def test_tritons_grpc_client(wine_server, wine):
    grpc = pytest.importorskip("tritonclient.grpc")
    client = grpc.InferenceServerClient(f"127.0.0.1:{wine_server.grpc_port}")
    assert client.is_server_ready()
    assert client.is_model_ready("wine")
    assert client.get_model_metadata("wine").inputs[0].datatype == "FP64"
    given = grpc.InferInput("input-0", list(wine.rows.shape), "FP64")
    given.set_data_from_numpy(wine.rows)
    answer = client.infer("wine", [given])
    assert answer.as_numpy("predict").tolist() == wine.model.predict(wine.rows).tolist()
    client.close()


async def test_kserves_rest_client(wine_server, wine):
    kserve = pytest.importorskip("kserve")
    for protocol, build in (("v1", kserve_v1), ("v2", kserve_v2)):
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol))
        assert await client.is_model_ready(wine_server.url, "wine")
        answer = await client.infer(wine_server.url, build(kserve, wine.rows), model_name="wine")
        found = answer["predictions"] if protocol == "v1" else answer.outputs[0].as_numpy().tolist()
        assert found == wine.model.predict(wine.rows).tolist()
        await client.close()


def kserve_v1(kserve, rows):
    return {"instances": rows.tolist()}


def kserve_v2(kserve, rows):
    given = kserve.InferInput("input-0", list(rows.shape), "FP64")
    given.set_data_from_numpy(np.ascontiguousarray(rows), binary_data=True)
    return kserve.InferRequest("wine", [given])


async def test_kserves_grpc_client(wine_server, wine):
    kserve = pytest.importorskip("kserve")
    client = kserve.InferenceGRPCClient(f"127.0.0.1:{wine_server.grpc_port}")
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("wine")
    answer = await client.infer(kserve_v2(kserve, wine.rows))
    assert answer.outputs[0].as_numpy().tolist() == wine.model.predict(wine.rows).tolist()
    await client.close()


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
def test_mlflows_scoring_client(wine_server, wine):
    mlflow = pytest.importorskip("mlflow.pyfunc.scoring_server.client")
    pandas = pytest.importorskip("pandas")
    client = mlflow.ScoringServerClient("127.0.0.1", wine_server.port)
    client.ping()
    assert client.get_version()
    rows = wine.rows[:20]
    expected = wine.model.predict(rows).tolist()
    table = pandas.DataFrame(rows, columns=wine.names)
    for data in (table, rows):
        answer = client.invoke(data)
        assert answer["predictions"] == expected
        assert answer.get_predictions().iloc[:, 0].tolist() == expected
    with pytest.raises(Exception, match="alcohol"):
        client.invoke(table.drop(columns="alcohol"))
