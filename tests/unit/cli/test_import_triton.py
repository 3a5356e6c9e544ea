"""config.pbtxt: the text format itself, and what a ModelDeployment is made of."""

from typing import Any

import pytest
from imports import message_about, spec_of, told

from modeldeploy.importing import textproto
from modeldeploy.importing.triton import convert
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused

LOST, CHANGED = "no counterpart", "changed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param('name: "a"  # the name\n', {"name": ["a"]}, id="a text and a comment"),
        pytest.param("a: 'it''s'", {"a": ["its"]}, id="texts side by side are one"),
        pytest.param(r'a: "\x41\102\n\""', {"a": ['AB\n"']}, id="escapes"),
        pytest.param("a: 1 a: -2 a: 0x10", {"a": [1, -2, 16]}, id="a field again is a list"),
        pytest.param("a: [1, 2]", {"a": [1, 2]}, id="a list"),
        pytest.param("a: []", {"a": []}, id="an empty list"),
        pytest.param("a: 1.5e-3; b: 2f, c: .5", {"a": [0.0015], "b": [2.0], "c": [0.5]}, id="numbers"),
        pytest.param("a: true b: KIND_GPU", {"a": [True], "b": ["KIND_GPU"]}, id="words"),
        pytest.param("a { b: 1 } a: < b: 2 >", {"a": [{"b": [1]}, {"b": [2]}]}, id="messages"),
        pytest.param("a [ { b: 1 }, { b: 2 } ]", {"a": [{"b": [1]}, {"b": [2]}]}, id="a list of messages"),
    ],
)
def test_the_text_format(text: str, expected: dict[str, Any]) -> None:
    assert textproto.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a 1", "line 1: a has no value", id="no colon"),
        pytest.param("\n\na: ]", "line 3: expected a value, and it is ']'", id="no value"),
        pytest.param("a: {\nb: 1", "line 2: the file ends before '}'", id="no end"),
        pytest.param("a: [1", "the file ends", id="a list without an end"),
        pytest.param("a:", "the file ends before the value", id="nothing behind the colon"),
        pytest.param("1: 2", "expected the name of a field, and it is '1'", id="a number for a name"),
        pytest.param("a: \x00", "is no text of protocol buffers", id="another file"),
        pytest.param("a {" * 100 + "}" * 100, "nested more than 32 deep", id="too deep"),
    ],
)
def test_a_text_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        textproto.parse(text)
    assert said in str(refused.value)


ONNX = """
name: "scores"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "label" data_type: TYPE_INT64 dims: [ 1 ] } ]
"""


def imported(text: str, *files: str, trusted: bool = False) -> Conversion:
    return convert(textproto.parse(text), files or ("1/model.onnx", "config.pbtxt"), "folder", trusted=trusted)


def test_a_graph_with_one_row_of_columns() -> None:
    conversion = imported(ONNX)
    assert spec_of(conversion)["server"] == {"batching": {"maxBatchSize": 1}}
    assert conversion.files == {"model.onnx": "1/model.onnx"}
    assert conversion.metadata == {
        "name": "scores",
        "version": "1",
        "format": "onnx",
        "artifacts": ["model.onnx"],
        "input_features": [{"name": f"X_{n}", "dtype": "float32"} for n in range(4)],
    }
    assert told(conversion) == {"input[0]": CHANGED}


@pytest.mark.parametrize(
    ("more", "server", "findings"),
    [
        pytest.param(
            "dynamic_batching { max_queue_delay_microseconds: 2000 }",
            {"batching": {"maxBatchSize": 8, "maxDelayMilliseconds": 2}},
            {},
            id="batches",
        ),
        pytest.param(
            "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }",
            {"batching": {"maxBatchSize": 8, "maxDelayMilliseconds": 1}},
            {
                "dynamic_batching.max_queue_delay_microseconds": CHANGED,
                "dynamic_batching.preferred_batch_size": CHANGED,
            },
            id="less than a millisecond",
        ),
        pytest.param("dynamic_batching { }", {"batching": {"maxBatchSize": 8}}, {}, id="batches that do not wait"),
        pytest.param(
            "instance_group { count: 2 kind: KIND_CPU }",
            {"batching": {"maxBatchSize": 1}, "workers": 2},
            {"instance_group": CHANGED},
            id="instances are processes",
        ),
        pytest.param(
            "instance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]",
            {"batching": {"maxBatchSize": 1}},
            {"instance_group[0].kind": LOST, "instance_group[0].gpus": LOST},
            id="graphics processors",
        ),
        pytest.param(
            'optimization { cuda {} } sequence_batching {} parameters { key: "a" value: { string_value: "b" } }',
            {"batching": {"maxBatchSize": 1}},
            {"parameters.a": LOST, "optimization": LOST, "sequence_batching": LOST},
            id="fields without a counterpart",
        ),
        pytest.param("frob: 1", {"batching": {"maxBatchSize": 1}}, {"frob": LOST}, id="a field that nobody knows"),
    ],
)
def test_what_a_field_becomes(more: str, server: dict[str, Any], findings: dict[str, str]) -> None:
    conversion = imported(ONNX + more)
    assert spec_of(conversion)["server"] == server
    assert told(conversion) == {"input[0]": CHANGED} | findings


@pytest.mark.parametrize(
    ("policy", "version", "findings"),
    [
        pytest.param("", "10", {}, id="the newest, by number"),
        pytest.param("version_policy { specific { versions: [ 2 ] } }", "2", {}, id="a version"),
        pytest.param("version_policy: { latest { num_versions: 1 } }", "10", {}, id="the newest one"),
        pytest.param("version_policy: { latest { num_versions: 2 } }", "10", {"version_policy": LOST}, id="two"),
        pytest.param("version_policy: { all { } }", "10", {"version_policy": LOST}, id="all"),
    ],
)
def test_one_version_is_served(policy: str, version: str, findings: dict[str, str]) -> None:
    files = ("1/model.onnx", "2/model.onnx", "10/model.onnx", "config.pbtxt")
    conversion = imported(ONNX + policy, *files)
    assert conversion.metadata["version"] == version
    assert conversion.files == {"model.onnx": f"{version}/model.onnx"}
    assert told(conversion) == {"input[0]": CHANGED} | findings


def test_trees_of_fil_bring_their_own_columns() -> None:
    text = """
    backend: "fil"
    max_batch_size: 32768
    input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 500 ] } ]
    output [ { name: "output__0" data_type: TYPE_FP32 dims: [ 2 ] } ]
    parameters [ { key: "model_type" value: { string_value: "xgboost_json" } },
                 { key: "predict_proba" value: { string_value: "true" } } ]
    """
    conversion = imported(text, "1/xgboost.json")
    spec_of(conversion)
    assert conversion.name == "folder"
    assert conversion.metadata == {
        "name": "folder", "version": "1", "format": "xgboost", "artifacts": ["xgboost.json"],
    }  # fmt: skip
    assert told(conversion) == {"input": CHANGED, "parameters.predict_proba": LOST}


def test_torchscript_runs_code() -> None:
    text = 'platform: "pytorch_libtorch" max_batch_size: 4 input { name: "INPUT__0" data_type: TYPE_FP32 dims: 3 }'
    conversion = imported(text, "1/model.pt")
    assert conversion.runs_code
    assert "trusted" not in spec_of(conversion)["model"]
    assert spec_of(imported(text, "1/model.pt", trusted=True))["model"]["trusted"] is True


def test_a_file_tells_its_backend_where_the_config_does_not() -> None:
    text = ONNX.replace('platform: "onnxruntime_onnx"', "")
    assert imported(text).metadata["format"] == "onnx"
    assert imported(text, "1/model.pt").metadata["format"] == "torchscript"
    assert imported(text + 'default_model_filename: "model.pt"', "1/model.pt").metadata["format"] == "torchscript"


def test_several_inputs_of_torchscript_have_other_names() -> None:
    inputs = "".join(f'input {{ name: "INPUT__{n}" data_type: TYPE_FP32 dims: 1 }} ' for n in range(2))
    conversion = imported(f'backend: "pytorch" max_batch_size: 4 {inputs}', "1/model.pt")
    assert "input_features" not in conversion.metadata
    assert "arguments of forward()" in message_about(conversion, "input")


def test_a_picture_is_no_list_of_columns() -> None:
    text = """
    platform: "onnxruntime_onnx"
    max_batch_size: 0
    input { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ]
            reshape { shape: [ 1, 3, 224, 224 ] } }
    """
    conversion = imported(text)
    assert "input_features" not in conversion.metadata
    assert told(conversion) == {"input[0]": CHANGED, "input[0].reshape": CHANGED, "input[0].format": CHANGED}
    without = imported(text.replace("reshape { shape: [ 1, 3, 224, 224 ] }", ""))
    assert told(without)["input[0].dims"] == LOST


def test_columns_that_have_names_keep_them() -> None:
    inputs = (
        'input { name: "age" data_type: TYPE_INT64 dims: [ 1 ] } input { name: "plan" data_type: TYPE_STRING dims: 1 }'
    )
    conversion = imported(f'platform: "onnxruntime_onnx" max_batch_size: 4 {inputs}')
    assert conversion.metadata["input_features"] == [
        {"name": "age", "dtype": "int64"},
        {"name": "plan", "dtype": "string"},
    ]
    assert told(conversion) == {}


@pytest.mark.parametrize(
    ("text", "files", "said"),
    [
        pytest.param(
            'platform: "tensorrt_plan"',
            (),
            "platform: 'tensorrt_plan' cannot be imported; known are onnxruntime_onnx, onnxruntime, pytorch_libtorch",
            id="a platform",
        ),
        pytest.param(
            "max_batch_size: 1",
            ("1/model.plan",),
            "platform: is missing, and no file is called model.onnx or model.pt; there are: 1/model.plan",
            id="no platform",
        ),
        pytest.param('platform: "ensemble"', (), "An ensemble is several ModelDeployments", id="an ensemble"),
        pytest.param('backend: "fil"', (), "parameters.model_type: 'xgboost' cannot be imported", id="binary trees"),
        pytest.param(
            'backend: "onnxruntime"',
            ("1/other.onnx",),
            "no version has the file model.onnx; there are: 1/other.onnx",
            id="no file",
        ),
        pytest.param(
            ONNX + "version_policy { specific { versions: 7 } }", (), "names version 7; there are: 1", id="no version"
        ),
        pytest.param(
            ONNX.replace("FP32", "BF16"), (), "input[0].data_type: 'BF16' cannot be imported", id="a data type"
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(text: str, files: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused) as refused:
        imported(text, *files)
    assert said in str(refused.value)
