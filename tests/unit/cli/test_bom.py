"""The bill of materials: what it says of a package, and that it is valid CycloneDX by the library of the field."""

import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import ComponentType
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from typer.testing import CliRunner

from modeldeploy.app import build
from modeldeploy.bom.document import bom_of
from modeldeploy.bom.facts import Dataset
from modeldeploy.bom.package import read_dataset, read_package
from modeldeploy.bom.requirements import Library, parse_requirements
from modeldeploy.package.digest import files_of, tree_digest
from modeldeploy.requests import Refused

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
METADATA = """
name: churn
version: "7"
description: Who leaves
format: lightgbm
task: binary-classification
input_features:
- {name: age, dtype: int64}
- {name: plan, dtype: string, categories: [a, b]}
- {name: spend}
output_features: [{name: leaves, dtype: int64}]
hyperparameters: {leaves: 31, objective: binary}
metrics: {accuracy: 0.91}
calibration: {raw_error: 0.12, error: 0.01, rows: 100}
reference_profile:
  age: {edges: [0, 30, 60], counts: [510, 320], missing: 12}
  plan: {categories: {a: 700, b: 142}}
"""
ML_MODEL = """
mlflow_version: 3.1.0
model_uuid: 6f1f
flavors: {python_function: {loader_module: mlflow.sklearn}, sklearn: {pickled_model: model.pkl}}
"""
CARD = """---
license: apache-2.0
pipeline_tag: text-classification
datasets: [imdb, acme/own reviews]
---
# A model
"""
BUNDLE = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {"publicKey": {}}}
REQUIREMENTS = """
# what it was trained with
--index-url https://example.com/simple
lightgbm==4.6.0 --hash=sha256:{one} \\
    --hash=sha256:{two}
NumPy[x] >=1.26,<3 ; python_version > "3.10"  # arrays
own @ https://robot:secret@example.com/own-1.0-py3-none-any.whl?token=1
"""
HASHES = {"one": "ab" * 32, "two": "0" * 64}
EVALUATION = {
    "rows": 569,
    "metrics": {"accuracy": 0.97},
    "groups": {"sex": {"2": {"rows": 207, "accuracy": 0.71, "low": 0.64, "high": 0.77, "selectionRate": 0.45}}},
}


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    def write(**files: str) -> Path:
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "model.txt").write_text("tree")
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder

    return write


def document(folder: Path, *datasets: Dataset, **more: Any) -> dict[str, Any]:
    """The document of a package, which is valid and readable by the library of the field."""
    text = bom_of(read_package(folder), datasets, tool_version="1", **more)
    assert text == bom_of(read_package(folder), datasets, tool_version="1", **more)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    read: Any = Bom.from_json(found)  # type: ignore[attr-defined]
    assert read.metadata.component.type == ComponentType.MACHINE_LEARNING_MODEL
    assert len(read.components) == len(found["components"])
    return found


def properties(found: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"].removeprefix("modeldeploy:"): one["value"] for one in found["properties"]}


def test_what_model_yaml_says(package: Callable[..., Path]) -> None:
    folder = package(**{"model.yaml": METADATA})
    model = document(folder)["metadata"]["component"]
    assert (model["name"], model["version"], model["description"]) == ("churn", "7", "Who leaves")
    assert properties(model) == {"sha256": tree_digest(folder, files_of(folder)), "format": "lightgbm"}
    card = model["modelCard"]
    assert card["modelParameters"]["task"] == "binary-classification"
    assert [one["format"] for one in card["modelParameters"]["inputs"]] == ["int64", "string", "float64"]
    assert card["modelParameters"]["outputs"] == [{"format": "int64"}]
    [trained] = card["modelParameters"]["datasets"]
    assert trained["description"].startswith("842 rows; ")
    metrics = {one["type"]: one["value"] for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics == {"accuracy": "0.91", "calibration raw error": "0.12", "calibration error": "0.01"}
    assert properties(card) == {
        "input:age": "int64",
        "input:plan": "string",
        "input:spend": "float64",
        "output:leaves": "int64",
        "hyperparameter:leaves": "31",
        "hyperparameter:objective": "binary",
    }


def test_a_package_that_says_nothing(package: Callable[..., Path]) -> None:
    found = document(package(**{"config.json": "[1, 2]", "README.md": "---\ndatasets: 5\n---\n"}))
    model = found["metadata"]["component"]
    assert (model["name"], "version" in model, "modelCard" in model) == ("package", False, False)
    assert [one["name"] for one in found["components"]] == ["README.md", "config.json", "model.txt"]
    assert "timestamp" not in found["metadata"]


def test_what_others_write_into_packages(package: Callable[..., Path]) -> None:
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    folder = package(MLmodel=ML_MODEL, **{"README.md": CARD, "config.json": json.dumps(config)})
    model = document(folder)["metadata"]["component"]
    assert properties(model) | {"sha256": ""} == {
        "sha256": "",
        "format": "mlflow (sklearn)",
        "mlflow:mlflow_version": "3.1.0",
        "mlflow:model_uuid": "6f1f",
    }
    assert model["licenses"] == [{"license": {"name": "apache-2.0"}}]
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["architectureFamily"] == "bert"
    assert parameters["modelArchitecture"] == "BertForSequenceClassification"
    assert parameters["task"] == "text-classification"
    urls = [one["contents"]["url"] for one in parameters["datasets"]]
    assert urls == ["hf://datasets/imdb", "hf://datasets/acme/own%20reviews"]


def test_files_libraries_and_the_signature(package: Callable[..., Path]) -> None:
    folder = package(**{"requirements.txt": REQUIREMENTS.format(**HASHES), "model.sig": json.dumps(BUNDLE)})
    (folder / "sub folder").mkdir()
    (folder / "sub folder" / "ä b.bin").write_bytes(b"")
    found = document(folder)
    kinds = {kind: [one for one in found["components"] if one["type"] == kind] for kind in ("file", "library")}
    assert [one["name"] for one in kinds["file"]] == [
        "model.sig",
        "model.txt",
        "requirements.txt",
        "sub folder/ä b.bin",
    ]
    assert all(one["hashes"][0]["alg"] == "SHA-256" for one in kinds["file"])
    lightgbm, numpy, own = kinds["library"]
    assert lightgbm["purl"] == "pkg:pypi/lightgbm@4.6.0"
    assert [one["content"] for one in lightgbm["externalReferences"][0]["hashes"]] == ["0" * 64, "ab" * 32]
    assert "version" not in numpy
    assert properties(numpy)["specifier"] == "<3,>=1.26"
    assert own["externalReferences"][0]["url"] == "https://example.com/own-1.0-py3-none-any.whl"
    assert found["dependencies"][0]["dependsOn"] == [one["bom-ref"] for one in kinds["library"]]
    [signature] = found["metadata"]["component"]["externalReferences"]
    assert (signature["type"], signature["url"]) == ("digital-signature", "model.sig")
    assert "by a key" in signature["comment"]


def test_data_sets_and_an_evaluation(package: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text("a,b\n")
    (tmp_path / "same.csv").write_text("a,b\n")
    names = [str(tmp_path / "training.csv"), str(tmp_path / "same.csv"), "s3://data/churn/2026-01.parquet"]
    found = document(package(), *map(read_dataset, names), evaluation=EVALUATION, made_at=NOON)
    data = [one for one in found["components"] if one["type"] == "data"]
    assert [one["name"] for one in data] == ["same.csv", "2026-01.parquet"], "what has one digest is one data set"
    assert data[1]["data"][0]["contents"]["url"] == "s3://data/churn/2026-01.parquet"
    card = found["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": one["bom-ref"]} for one in data]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "accuracy", "value": "0.97"},
        {
            "type": "accuracy",
            "value": "0.71",
            "slice": "sex=2",
            "confidenceInterval": {"lowerBound": "0.64", "upperBound": "0.77"},
        },
        {"type": "selectionRate", "value": "0.45", "slice": "sex=2"},
    ]
    assert properties(card) == {"evaluation:rows": "569"}
    assert found["metadata"]["timestamp"] == "2026-01-02T12:00:00Z"


def test_the_serial_number_changes_with_what_is_said(package: Callable[..., Path]) -> None:
    folder = package()
    first = document(folder)["serialNumber"]
    assert first == document(folder)["serialNumber"]
    assert first != document(folder, Dataset(name="a", url="s3://a"))["serialNumber"]


@pytest.mark.parametrize(
    ("line", "library"),
    [
        ("a==1.0", Library(name="a", version="1.0", specifier="==1.0")),
        ("A_b.C==1.*", Library(name="a-b-c", specifier="==1.*")),
        ("a>=1,<2", Library(name="a", specifier="<2,>=1")),
        ("a  # why", Library(name="a")),
        ("a==1 \\\n --hash=sha256:" + "AB" * 32, Library(name="a", version="1", specifier="==1", sha256=("ab" * 32,))),
    ],
)
def test_requirements(line: str, library: Library) -> None:
    assert parse_requirements(line) == [library]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({"model.yaml": "a: ["}, "model.yaml is not YAML", id="broken YAML"),
        pytest.param({"model.yaml": "- a"}, "model.yaml holds a list, not fields", id="a list"),
        pytest.param(
            {"model.yaml": "input_features: {a: b}"}, "input_features is no list", id="features of another kind"
        ),
        pytest.param({"model.yaml": "metrics: [1]"}, "metrics holds a list", id="metrics of another kind"),
        pytest.param({"model.yaml": "reference_profile: {a: 1}"}, "that is no distribution", id="a broken profile"),
        pytest.param({"model.yaml": "name: [a]"}, "name is no text", id="a name that is a list"),
        pytest.param({"model.sig": "["}, "model.sig is not JSON", id="broken JSON"),
        pytest.param({"model.sig": "[" * 100_000}, "model.sig is not JSON", id="JSON that is nested too deeply"),
        pytest.param({"requirements.txt": "a==1\nb = 2"}, "requirements.txt line 2: 'b = 2'", id="no requirement"),
    ],
)
def test_what_cannot_be_read(package: Callable[..., Path], files: dict[str, str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        document(package(**files))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.csv", "--dataset nowhere.csv is no file: name one, or a URI"),
        ("https://u:p@example.com/a.csv", "has credentials or a query"),
        ("https://example.com/a.csv?sig=secret", "has credentials or a query"),
    ],
)
def test_data_sets_that_are_none(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        read_dataset(text)
    assert "secret" not in str(refused.value)
    assert "u:p" not in str(refused.value)


def test_the_command(package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    (tmp_path / "result.json").write_text(json.dumps(EVALUATION))
    words = ["bom", str(package()), "--evaluation", str(tmp_path / "result.json"), "--dataset", "s3://data/a.csv"]
    done = CliRunner().invoke(build(), words)
    assert done.exit_code == 0
    assert "no requirements.txt in the package" in done.stderr
    assert json.load(io.StringIO(done.stdout))["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "noon")
    assert isinstance(CliRunner().invoke(build(), words).exception, Refused)
