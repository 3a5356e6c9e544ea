"""model.yaml, field by field."""

from __future__ import annotations

import re

import pytest

from model_server.errors import MetadataInvalid
from model_server.package.metadata import read_metadata

WHOLE = """
name: churn
version: 7
description: Who leaves
format: sklearn
artifacts: [scaler.joblib, model.joblib]
input_features:
- {name: age, dtype: int64, range: [0, 130], example: 31, description: Years}
- {name: plan, dtype: string, categories: [free, paid], example: free}
- {name: spend, nullable: true}
output_features: [{name: leaves, dtype: bool}]
hyperparameters: {C: 1.0, solver: lbfgs}
metrics: {accuracy: 0.9}
reference_profile:
  age: {edges: [0, 30, 60, 130], counts: [5, 3, 1]}
  plan: {categories: {free: 7, paid: 2}}
"""


def read(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    return read_metadata(path)


def test_every_field_is_read(tmp_path):
    metadata = read(tmp_path, WHOLE)
    assert metadata.version == "7"
    assert [feature.name for feature in metadata.input_features] == ["age", "plan", "spend"]
    assert metadata.input_features[0].range == (0, 130)
    assert metadata.input_features[2].nullable
    assert metadata.reference_profile["plan"].categories == {"free": 7, "paid": 2}


def test_an_empty_file_says_nothing(tmp_path):
    assert read(tmp_path, "").input_features == ()


@pytest.mark.parametrize("written", ["7", "1.10", "010", "1e3", "2024-01-31", "'x'"])
def test_a_version_is_the_text_that_was_written(tmp_path, written):
    assert read(tmp_path, f"version: {written}\nname: m").version == written.strip("'")


def feature(fields):
    return f"input_features: [{{name: x, {fields}}}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[1, 2]", "holds a list, not fields", id="a list"),
        pytest.param(
            "nam: x",
            "nam: is not a field; known are name, version",
            id="a misspelt field lists the known",
        ),
        pytest.param("version: true", "version: ", id="a version that is a boolean"),
        pytest.param("metrics: {accuracy: high}", "metrics.accuracy: ", id="a metric in words"),
        pytest.param(
            "artifacts: [/etc/passwd]", "artifacts: '/etc/passwd' must be a path inside", id="an absolute path"
        ),
        pytest.param(
            feature("dtype: double"),
            "input_features[0].dtype: expected one of 'float64', 'float32'",
            id="an unknown dtype lists the known",
        ),
        pytest.param(
            feature("rnge: [0, 1]"), "input_features[0].rnge: is not a field", id="a misspelt field of a feature"
        ),
        pytest.param(feature("range: [2, 1]"), "range [2, 1] is empty", id="a range upside down"),
        pytest.param(feature("dtype: string, range: [0, 1]"), "a range needs a numeric dtype", id="a range of text"),
        pytest.param(feature("categories: []"), "categories is empty", id="no category allowed"),
        pytest.param(
            feature("range: [0, 1], example: 5"), "example 5 is outside range [0, 1]", id="an example outside its range"
        ),
        pytest.param(
            feature("dtype: string, categories: [a], example: b"),
            "example 'b' is not one of",
            id="an example that is no category",
        ),
        pytest.param(feature("example: abc"), "example 'abc' is not a float64", id="an example of another type"),
        pytest.param(
            feature("dtype: int64, nullable: true"),
            "nullable needs a float, string or time",
            id="integers cannot be missing",
        ),
        pytest.param("input_features: [{name: x}, {name: x}]", "input_features names 'x' twice", id="one name twice"),
        pytest.param(
            "reference_profile: {x: {edges: [0, 1], counts: [1, 2]}}",
            "2 edges need 1 counts",
            id="edges and counts disagree",
        ),
        pytest.param(
            "reference_profile: {x: {edges: [1, 0], counts: [1]}}", "edges must increase", id="edges that fall"
        ),
        pytest.param(
            "input_features: [{name: x}]\nreference_profile: {y: {categories: {a: 1}}}",
            "names 'y', which is not",
            id="a profile of an unknown feature",
        ),
        pytest.param(
            "input_features: [{name: x, dtype: string}]\nreference_profile: {x: {edges: [0, 1], counts: [1]}}",
            "reference_profile gives edges for 'x', which is of dtype string",
            id="edges of text",
        ),
        pytest.param(
            "input_features: [{name: x, dtype: int64}]\nreference_profile: {x: {categories: {'1': 5, many: 2}}}",
            "reference_profile counts 'many' for 'x', which is no value of dtype int64",
            id="a profile of words for a number",
        ),
        pytest.param(
            feature("dtype: string, categories: [yes, no]"),
            "category True of 'x' is not a string",
            id="YAML's yes is no text",
        ),
        pytest.param(feature("categories: [1, b]"), "category 'b' of 'x' is not a float64", id="a word for a number"),
    ],
)
def test_a_fault_is_named_by_its_field(tmp_path, text, message):
    with pytest.raises(MetadataInvalid) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert caught.value.hint


def test_every_mistake_is_told_at_once(tmp_path):
    text = "name: [x]\nmetrics: {accuracy: high, loss: 1}\ninput_features: [{}, {name: x, range: [0, many]}]\nowner: me"
    with pytest.raises(MetadataInvalid) as caught:
        read(tmp_path, text)
    assert re.findall(r"([\w.\[\]]+): (?:expected|is) ", caught.value.message) == [
        "name",
        "input_features[0].name",
        "input_features[1].range[1]",
        "metrics.accuracy",
        "owner",
    ]
