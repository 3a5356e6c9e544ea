"""TorchServe's archives: manifest and configuration as a ModelDeployment and a package, and how they are unpacked."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from imports import message_about, spec_of, told

from modeldeploy.importing import read_source
from modeldeploy.importing.contents import Archive
from modeldeploy.importing.sources import Options
from modeldeploy.importing.torchserve import MANIFEST, convert
from modeldeploy.importing.values import Conversion
from modeldeploy.requests import Refused

LOST, CHANGED = "no counterpart", "changed"
MODEL = {"modelName": "digits", "serializedFile": "model.pt", "modelVersion": "1.0"}


def a_manifest(**model: Any) -> dict[str, Any]:
    given = {name: value for name, value in (MODEL | model).items() if value is not None}
    return {"createdOn": "01/01/2026", "runtime": "python", "archiverVersion": "0.12.0", "model": given}


def imported(*more: str, config: dict[str, Any] | None = None, **model: Any) -> Conversion:
    return convert(a_manifest(**model), config or {}, ["model.pt", MANIFEST, *more])


def test_a_script_with_the_handler_that_does_nothing_else() -> None:
    conversion = imported(handler="base_handler")
    assert spec_of(conversion) == {"model": {"storageUri": "s3://models/imported"}}
    assert conversion.metadata == {
        "name": "digits",
        "version": "1.0",
        "format": "torchscript",
        "artifacts": ["model.pt"],
    }
    assert (conversion.files, conversion.runs_code) == ({"model.pt": "model.pt"}, True)
    assert conversion.findings == ()


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        pytest.param("image_classifier", "pictures are not decoded", id="one of TorchServe's"),
        pytest.param("handler.py", "the code of handler.py does not run", id="one's own"),
        pytest.param("handler:handle", "the code of handler:handle does not run", id="a function of one's own"),
    ],
)
def test_what_a_handler_does_is_named(handler: str, said: str) -> None:
    conversion = imported("handler.py", handler=handler)
    assert told(conversion)["manifest.model.handler"] == LOST
    assert said in message_about(conversion, "manifest.model.handler")
    assert "pre.py and post.py" in message_about(conversion, "manifest.model.handler")


def test_requirements_labels_and_other_files() -> None:
    files = ("reqs.txt", "index_to_name.json", "vocab.bin")
    conversion = imported(*files, requirementsFile="reqs.txt")
    assert conversion.files == {"model.pt": "model.pt", "requirements.txt": "reqs.txt"}
    assert told(conversion) == {
        "manifest.model.requirementsFile": CHANGED,
        "index_to_name.json": LOST,
        "vocab.bin": LOST,
    }


def test_the_configuration() -> None:
    config = {
        "minWorkers": 2,
        "maxWorkers": 4,
        "batchSize": 8,
        "maxBatchDelay": 5000,
        "responseTimeout": 60,
        "deviceType": "gpu",
        "frob": 1,
    }
    conversion = imported("model-config.yaml", config=config, configFile="model-config.yaml")
    assert spec_of(conversion)["server"] == {
        "workers": 2,
        "batching": {"maxBatchSize": 8, "maxDelayMilliseconds": 1000},
        "requestTimeoutSeconds": 60,
    }
    assert told(conversion) == {
        "config.maxBatchDelay": CHANGED,
        "config.maxWorkers": LOST,
        "config.deviceType": LOST,
        "config.frob": LOST,
    }


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param({"modelFile": "model.py"}, "modelFile: model.py has the class of a model", id="weights"),
        pytest.param({"serializedFile": None}, "serializedFile: is missing", id="no model"),
        pytest.param({"serializedFile": "a.pt"}, "'a.pt' is not in the archive; there are: MAR-INF", id="another name"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_field(model: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        imported(**model)
    assert said in str(refused.value)


def test_a_format_that_nobody_has() -> None:
    with pytest.raises(Refused, match=r"'model.bin' cannot be imported; known are .pt"):
        imported("model.bin", serializedFile="model.bin")


def an_archive(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_read_and_written_to_places_of_ours(tmp_path: Path) -> None:
    name = "../../outside/model.pt"
    manifest = json.dumps(a_manifest(serializedFile=name, configFile="c.yaml")).encode()
    path = an_archive(tmp_path / "a.mar", {name: b"PK", MANIFEST: manifest, "c.yaml": b"minWorkers: 3"})
    (imported,) = read_source(path, Options())
    assert imported.conversion.files == {"model.pt": name}
    assert imported.conversion.spec["server"]["workers"] == 3


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({"a": b""}, "has no MAR-INF/MANIFEST.json", id="another zip"),
        pytest.param({MANIFEST: b"{"}, "is no JSON", id="no JSON"),
        pytest.param({MANIFEST: b" " * (1 << 20) + b"{}"}, "is larger than 1 MiB", id="a manifest of another size"),
        pytest.param(
            {MANIFEST: json.dumps(a_manifest(configFile="c.yaml")).encode(), "c.yaml": b"{"},
            "the configuration is no YAML",
            id="no YAML",
        ),
    ],
)
def test_an_archive_that_is_none(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(Refused) as refused:
        read_source(an_archive(tmp_path / "a.mar", files), Options())
    assert said in str(refused.value)


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "a.mar").write_bytes(b"\x1f\x8b")
    with pytest.raises(Refused, match=r"a.mar: is no zip"):
        read_source(tmp_path / "a.mar", Options())


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = an_archive(tmp_path / "a.mar", {"model.pt": bytes(8 << 20)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("modeldeploy.importing.contents._HARMLESS_BYTES", 1 << 20)
    with pytest.raises(Refused, match="unpacks to 200 times its size and more"):
        Archive(path).copy("model.pt", tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 4 << 20
