"""model-settings.json as a ModelDeployment and a package."""

from typing import Any

import pytest
from imports import spec_of, told

from modeldeploy.importing.mlserver import convert
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused

LOST, CHANGED = "no counterpart", "changed"
SVM = {"name": "mnist-svm", "implementation": "mlserver_sklearn.SKLearnModel"}


def imported(*files: str, trusted: bool = False, other_uri: str = "", **settings: Any) -> Conversion:
    return convert(SVM | settings, files or ("model.joblib",), "folder", other_uri=other_uri, trusted=trusted)


def test_a_file_that_is_named() -> None:
    conversion = imported("svm.joblib", "other.txt", parameters={"uri": "./svm.joblib", "version": "v0.1.0"})
    assert spec_of(conversion)["model"]["format"] == "sklearn"
    assert conversion.metadata == {
        "name": "mnist-svm",
        "version": "v0.1.0",
        "format": "sklearn",
        "artifacts": ["svm.joblib"],
    }
    assert (conversion.files, conversion.runs_code) == ({"svm.joblib": "svm.joblib"}, True)
    assert conversion.findings == ()


def test_the_usual_file_where_none_is_named() -> None:
    assert imported("model.joblib", "x").files == {"model.joblib": "model.joblib"}


def test_a_folder_is_taken_as_it_is() -> None:
    settings: dict[str, Any] = {"implementation": "mlserver_mlflow.MLflowRuntime", "parameters": {"uri": "./model"}}
    conversion = imported("model/MLmodel", "model/data/model.pkl", "model-settings.json", **settings)
    assert conversion.files == {"MLmodel": "model/MLmodel", "data/model.pkl": "model/data/model.pkl"}
    assert conversion.metadata == {}  # MLmodel has it
    assert spec_of(conversion)["model"]["format"] == "mlflow"


def test_the_folder_of_the_settings_itself() -> None:
    settings: dict[str, Any] = {"implementation": "mlserver_huggingface.HuggingFaceRuntime"}
    conversion = imported("config.json", "model.safetensors", "model-settings.json", **settings)
    assert set(conversion.files) == {"config.json", "model.safetensors"}


def test_batches_and_processes() -> None:
    conversion = imported(max_batch_size=16, max_batch_time=0.05, parallel_workers=2)
    assert spec_of(conversion)["server"] == {
        "workers": 2,
        "batching": {"maxBatchSize": 16, "maxDelayMilliseconds": 50},
    }
    assert told(imported(max_batch_size=16, max_batch_time=3.0)) == {"max_batch_time": CHANGED}


def test_inputs_of_a_graph_are_features() -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "parameters": {"content_type": "np"}}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]
    conversion = imported(
        "m.onnx", implementation="mlserver_onnx.OnnxModel", parameters={"uri": "m.onnx"}, inputs=inputs, outputs=outputs
    )
    spec_of(conversion)
    assert conversion.metadata["input_features"] == [
        {"name": "x_0", "dtype": "float32"},
        {"name": "x_1", "dtype": "float32"},
    ]
    assert told(conversion) == {"inputs[0]": CHANGED, "outputs": CHANGED, "inputs[0].parameters": CHANGED}


def test_a_model_that_tells_its_columns_is_not_contradicted() -> None:
    conversion = imported(inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}])
    assert "input_features" not in conversion.metadata
    assert told(conversion) == {"inputs": CHANGED}


def test_fields_without_a_counterpart_are_named() -> None:
    parameters = {"extra": {"a": 1}, "content_type": "pd", "frob": 1}
    conversion = imported(parameters=parameters, cache_enabled=True)
    assert told(conversion) == {
        "parameters.extra": LOST,
        "parameters.content_type": CHANGED,
        "parameters.frob": LOST,
        "cache_enabled": LOST,
    }


def test_a_model_elsewhere_is_trusted_by_the_user_alone() -> None:
    assert told(imported(other_uri="s3://models/svm")) == {"parameters.uri": CHANGED}
    conversion = imported(other_uri="s3://models/svm", trusted=True)
    assert spec_of(conversion)["model"] == {"storageUri": "s3://models/svm", "format": "sklearn", "trusted": True}
    assert (conversion.files, told(conversion)) == ({}, {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(
            {"implementation": "mine.Runtime"},
            "implementation: 'mine.Runtime' cannot be imported; known are mlserver_sklearn.SKLearnModel",
            id="a runtime of one's own",
        ),
        pytest.param({"parameters": {"uri": "../../etc/passwd"}}, "is outside of the folder", id="a way out"),
        pytest.param({"parameters": {"uri": "/etc/passwd"}}, "is outside of the folder", id="a path of the machine"),
        pytest.param({"parameters": {"uri": "a.pkl"}}, "'a.pkl' does not exist", id="no file"),
        pytest.param(
            {"implementation": "mlserver_xgboost.XGBoostModel"},
            "parameters.uri: is missing, and there is no model.bst or model.json or model.ubj beside",
            id="no usual file",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "datatype": "FP23", "shape": [-1]}]},
            "inputs[0].datatype: 'FP23' cannot be imported",
            id="a data type",
        ),
        pytest.param({"inputs": {"name": "x"}}, "inputs: expected a list of objects", id="a wrong type"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        imported(**settings)
    assert said in str(refused.value)
