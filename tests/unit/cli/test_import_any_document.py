"""Whatever stands in a document of another system: it is imported or refused, and nothing else is raised."""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeploy.importing import kserve, mlserver, seldon, textproto, torchserve, triton
from modeldeploy.importing.values import Conversion, manifest
from modeldeploy.requests import Refused

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)

CONTAINER = {
    "name": "kserve-container",
    "image": "x",
    "ports": [{"containerPort": 9000}],
    "env": [{"name": "STORAGE_URI", "value": "s3://a/b"}],
    "readinessProbe": {"httpGet": {"path": "/"}},
    "resources": {"limits": {"cpu": 1}},
}
SERVICE = {
    "metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"serving.kserve.io/metric": "cpu"}},
    "spec": {
        "predictor": {
            "minReplicas": 0,
            "maxReplicas": 3,
            "scaleTarget": 5,
            "canaryTrafficPercent": 10,
            "batcher": {"maxBatchSize": 3, "maxLatency": 5},
            "logger": {"url": "http://x"},
            "model": {
                "modelFormat": {"name": "huggingface"},
                "args": ["--model_id=a/b"],
                "env": [{"name": "A"}],
                "storage": {"key": "a", "path": "b", "parameters": {"bucket": "c"}},
                "resources": {"limits": {"cpu": 1}},
            },
        }
    },
}
OWN = {"metadata": {"name": "a"}, "spec": {"predictor": {"containers": [CONTAINER]}}}
DEPLOYMENT = {
    "metadata": {"name": "a"},
    "spec": {
        "protocol": "v2",
        "predictors": [
            {
                "graph": {
                    "name": "m",
                    "implementation": "SKLEARN_SERVER",
                    "modelUri": "s3://a/b",
                    "envSecretRefName": "s",
                },
                "componentSpecs": [
                    {
                        "spec": {"containers": [CONTAINER | {"name": "m"}]},
                        "hpaSpec": {
                            "maxReplicas": 3,
                            "metricsv2": [
                                {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 3}}}
                            ],
                        },
                    }
                ],
                "traffic": 50,
            }
        ],
    },
}
CORE_2 = {"metadata": {"name": "a"}, "spec": {"storageUri": "s3://a/b", "requirements": ["sklearn"], "memory": "1Mi"}}
SETTINGS = {
    "name": "a",
    "implementation": "mlserver_onnx.OnnxModel",
    "parameters": {"uri": "m.onnx", "version": "1"},
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    "max_batch_size": 3,
    "max_batch_time": 0.1,
}
ARCHIVE = {"model": {"modelName": "a", "serializedFile": "model.pt", "handler": "x.py", "requirementsFile": "r.txt"}}
CONFIG = {
    "platform": ["onnxruntime_onnx"],
    "max_batch_size": [3],
    "input": [{"name": ["x"], "data_type": ["TYPE_FP32"], "dims": [3], "reshape": [{"shape": [3]}]}],
    "output": [{"name": ["y"]}],
    "instance_group": [{"count": [2], "kind": ["KIND_CPU"]}],
    "dynamic_batching": [{"max_queue_delay_microseconds": [5]}],
    "version_policy": [{"specific": [{"versions": [1]}]}],
    "parameters": [{"key": ["a"], "value": [{"string_value": ["b"]}]}],
}

IMPORTERS: dict[str, tuple[Any, Callable[[Any], Conversion]]] = {
    "KServe": (SERVICE, kserve.convert),
    "KServe, a container": (OWN, kserve.convert),
    "Seldon Core 1": (DEPLOYMENT, seldon.convert),
    "Seldon Core 2": (CORE_2, seldon.convert_model),
    "MLServer": (SETTINGS, lambda document: mlserver.convert(document, ["m.onnx"], "folder")),
    "TorchServe": (ARCHIVE, lambda document: torchserve.convert(document, {}, ["model.pt", "r.txt"])),
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from paths(child, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


@pytest.mark.parametrize("system", IMPORTERS)
@settings(max_examples=300)
@given(st.data())
def test_any_value_in_any_place(system: str, data: st.DataObject) -> None:
    document, convert = IMPORTERS[system]
    convert(document)  # as it stands, it is imported
    path = data.draw(st.sampled_from(list(paths(document))))
    with suppress(Refused):
        manifest(convert(replaced(document, path, data.draw(VALUES))), {})


@given(st.data())
def test_any_message_of_triton(data: st.DataObject) -> None:
    def convert(message: Any) -> Conversion:
        return triton.convert(message, ["1/model.onnx"], "folder")

    convert(CONFIG)
    scalars = st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    messages = st.dictionaries(st.text(max_size=3), st.lists(scalars, max_size=2), max_size=2)
    field = data.draw(st.sampled_from([one for one in paths(CONFIG) if not isinstance(one[-1], int)]))
    with suppress(Refused):
        convert(replaced(CONFIG, field, data.draw(st.lists(scalars | messages, max_size=3))))


@given(st.text(st.sampled_from('ab12.-"\\:;,{}[]<># \n'), max_size=40))
def test_any_text_of_protocol_buffers(text: str) -> None:
    with suppress(Refused):
        textproto.parse(text)
