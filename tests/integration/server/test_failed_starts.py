"""A package or a source that cannot be served: its reason, its message, its hint, its exit code."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import tarfile
import zipfile

import joblib
import pytest
from pod_events import assert_seen

from model_server.errors import ArchiveUnsafe, StartError
from model_server.loader import load
from model_server.package.archives import ArchiveLimits, unpack
from model_server.settings import read_settings
from model_server.termination import exit_code

PERMANENT_ARTIFACT, STORAGE, SETTINGS = 65, 69, 78


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def tar_of(name, *, kind=tarfile.REGTYPE, link="", content=b"x"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, link, len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(name, content=b"x"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Loads as the process does, and gives the error that stops it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)

    def load_and_fail(uri, **settings):
        environ = {name: value for name, value in settings.items() if name.startswith("AWS_")}
        environ |= {
            f"MODEL_SERVER_{name.upper()}": str(value) for name, value in settings.items() if name not in environ
        }
        environ["MODEL_SERVER_STORAGE_URI"] = uri
        with pytest.raises(StartError) as caught:
            load(read_settings(environ), tmp_path / "scratch", environ=environ, report=lambda phase, text: None)
        return caught.value

    return load_and_fail


GOOD_PY = "def load_model(path): return 1\ndef predict(model, inputs): return [0] * len(inputs)\n"
NAN_PY = "def load_model(path): return 1\ndef predict(model, inputs): return [float('nan')] * len(inputs)\n"
FAILING_PY = "def load_model(path): return 1\ndef predict(model, inputs):\n    return inputs[99]\n"
SHORT_PY = "def load_model(path): return 1\ndef predict(model, inputs): return []\n"
ONE_FEATURE = "input_features: [{name: a, example: 1.0}]\n"


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        pytest.param({}, "ArtifactEmpty", "holds nothing", id="an empty folder"),
        pytest.param({"model.joblib": b""}, "ArtifactEmpty", "holds nothing", id="an empty file"),
        pytest.param(
            {"model.onnx": "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"},
            "FormatMismatch",
            "does not begin like one",
            id="a Git LFS pointer",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "input_feature: []"},
            "MetadataInvalid",
            "is not a field",
            id="a misspelt field",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "input_features: [{name: a, range: [0, 1], example: 2}]"},
            "MetadataInvalid",
            "outside range",
            id="an example outside its own range",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "- a\n- b\n"}, "MetadataInvalid", "holds a list", id="a list for fields"
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": b"name: \xff"},
            "MetadataInvalid",
            "is not YAML",
            id="bytes that are no text",
        ),
        pytest.param(
            {"model.py": GOOD_PY.replace("path", "path, more")},
            "LoadFailed",
            "does not take 1 argument",
            id="load_model with one argument too many",
        ),
        pytest.param(
            {"model.yaml": "artifacts: [gone.onnx]", "model.onnx": b"\x08x"},
            "FormatUnknown",
            "names 'gone.onnx'",
            id="an artifact that is not there",
        ),
        pytest.param(
            {"notes.txt": "hi"},
            "FormatUnknown",
            "no model was recognised among notes.txt",
            id="no model inside",
        ),
        pytest.param(
            {"model.onnx": b"\x08x", "model.joblib": b"\x80\x04x"},
            "FormatAmbiguous",
            "model.joblib (sklearn), model.onnx (onnx)",
            id="two formats",
        ),
        pytest.param(
            {"model.joblib": "<html>"},
            "FormatMismatch",
            "does not begin like one",
            id="a web page for a model",
        ),
        pytest.param(
            {"model.onnx": b"\x80\x04x"},
            "FormatMismatch",
            "begins like sklearn",
            id="a pickle named like ONNX",
        ),
        pytest.param(
            {"model.pt": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)},
            "FormatMismatch",
            "model.pt is a legacy pickle of torch.save",
            id="a file of an old torch.save",
        ),
        pytest.param({"model.joblib": b"\x80\x04x"}, "ArtifactCorrupt", "cannot be unpickled", id="a damaged pickle"),
        pytest.param({"model.onnx": b"\x08garbage"}, "ArtifactCorrupt", "not a valid ONNX graph", id="a damaged graph"),
        pytest.param(
            {"model.pkl": pickle.dumps([1])},
            "LoadFailed",
            "holds a list (0: int), which is not one model",
            id="a list for a model",
        ),
        pytest.param(
            {"model.py": "def load_model(path): return 1\n"},
            "LoadFailed",
            "no function predict",
            id="model.py without predict",
        ),
        pytest.param(
            {"model.py": "import nothing_like_it\n"},
            "DependencyMissing",
            "nothing_like_it",
            id="model.py needs a missing module",
        ),
        pytest.param({"model.py": "x = = 1\n"}, "LoadFailed", "SyntaxError", id="model.py with a syntax error"),
        pytest.param(
            {"model.py": "def load_model(path):\n    raise KeyError('w')\ndef predict(m, i): ...\n"},
            "LoadFailed",
            "load_model raised KeyError: 'w' (model.py line 2)",
            id="load_model raises",
        ),
        pytest.param(
            {"model.py": "import sys\ndef load_model(path):\n    sys.exit(3)\ndef predict(m, i): ...\n"},
            "LoadFailed",
            "load_model raised SystemExit: 3 (model.py line 3)",
            id="load_model ends the process",
        ),
        pytest.param(
            {"model.py": "raise SystemExit('no licence')\n"},
            "LoadFailed",
            "SystemExit: no licence (model.py line 1)",
            id="model.py ends the process",
        ),
        pytest.param(
            {"model.py": "def load_model(p): ...\ndef predict(m, i): raise SystemExit\n", "model.yaml": ONE_FEATURE},
            "PredictFailed",
            "SystemExit",
            id="predict ends the process",
        ),
        pytest.param(
            {"model.py": "def load_model(): ...\ndef predict(m, i): ...\n"},
            "LoadFailed",
            "load_model in model.py does not take 1 argument",
            id="load_model without a path",
        ),
        pytest.param(
            {"model.py": "def load_model(p): ...\nasync def predict(m, i): ...\n"},
            "LoadFailed",
            "is async",
            id="predict is async",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "version: [1]"},
            "MetadataInvalid",
            "version",
            id="a version that is a list",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "a: b: c"},
            "MetadataInvalid",
            "is not YAML",
            id="model.yaml that is no YAML",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "format: tensorflow9"},
            "FormatUnknown",
            "'tensorflow9'",
            id="a format nobody knows",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "model.yaml": "artifacts: [../x]"},
            "MetadataInvalid",
            "inside the package",
            id="an artifact outside",
        ),
        pytest.param(
            {"model.py": FAILING_PY, "model.yaml": ONE_FEATURE},
            "PredictFailed",
            "IndexError",
            id="predict raises on its example",
        ),
        pytest.param(
            {"model.py": NAN_PY, "model.yaml": ONE_FEATURE}, "PredictFailed", "is NaN", id="predict gives NaN"
        ),
        pytest.param(
            {"model.py": SHORT_PY, "model.yaml": ONE_FEATURE},
            "PredictFailed",
            "shape [0] for 1 row",
            id="predict gives too few rows",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "requirements.txt": "numpy==1.0.0\n"},
            "DependencyMismatch",
            "numpy 1.0.0 needed, ",
            id="another version is needed",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "requirements.txt": "not-there>=2\n"},
            "DependencyMismatch",
            "not-there >=2 needed, none installed",
            id="a needed library is absent",
        ),
        pytest.param(
            {"model.py": GOOD_PY, "requirements.txt": "numpy =/ 3\n"},
            "MetadataInvalid",
            "line 1",
            id="a line that is no requirement",
        ),
    ],
)
def test_a_bad_package_is_told_by_its_reason(start, tmp_path, files, reason, message):
    folder = tmp_path / "package"
    folder.mkdir()
    write(folder, files)
    error = start(f"file://{folder}", trusted=True)
    assert error.reason == reason
    assert message in error.message
    assert error.hint
    assert (error.permanent, exit_code(error)) == (True, PERMANENT_ARTIFACT)
    assert_seen(error)


@pytest.mark.parametrize(
    ("features", "reason", "message"),
    [
        pytest.param(
            "[{name: a}, {name: b}]", "MetadataInvalid", "lists 2, and the model was trained with 4", id="two"
        ),
        pytest.param(
            "[{name: a}, {name: b}, {name: c}, {name: d}, {name: e}]", "MetadataInvalid", "lists 5", id="five"
        ),
    ],
)
def test_features_that_are_not_the_models_are_told(start, tmp_path, same, features, reason, message):
    folder = tmp_path / "package"
    folder.mkdir()
    write(folder, {"model.onnx": same, "model.yaml": f"input_features: {features}"})
    error = start(f"file://{folder}")
    assert (error.reason, exit_code(error)) == (reason, PERMANENT_ARTIFACT)
    assert message in error.message
    assert_seen(error)


@pytest.mark.parametrize(
    ("name", "archive", "reason"),
    [
        pytest.param("m.tar.gz", tar_of("../evil"), "ArchiveUnsafe", id="a path that climbs"),
        pytest.param("m.tar.gz", tar_of("/etc/evil"), "ArchiveUnsafe", id="an absolute path"),
        pytest.param(
            "m.tar.gz",
            tar_of("a", kind=tarfile.SYMTYPE, link="/etc/passwd", content=b""),
            "ArchiveUnsafe",
            id="a link",
        ),
        pytest.param(
            "m.tar.gz",
            tar_of("a", kind=tarfile.LNKTYPE, link="/etc/passwd", content=b""),
            "ArchiveUnsafe",
            id="a hard link",
        ),
        pytest.param("m.tar.gz", tar_of("a", kind=tarfile.FIFOTYPE, content=b""), "ArchiveUnsafe", id="a pipe"),
        pytest.param("m.zip", zip_of("/etc/evil"), "ArchiveUnsafe", id="an absolute path in a zip"),
        pytest.param("m.zip", zip_of("C:\\evil"), "ArchiveUnsafe", id="a drive of Windows"),
        pytest.param("m.zip", b"<html>not found</html>", "ArtifactCorrupt", id="a web page for a zip"),
        pytest.param("m.tar.gz", zip_of("model.py"), "ArtifactCorrupt", id="a zip named like a tar"),
        pytest.param("m.tar.gz", tar_of("a", kind=tarfile.CHRTYPE, content=b""), "ArchiveUnsafe", id="a device"),
        pytest.param("m.zip", zip_of("../evil"), "ArchiveUnsafe", id="a climbing path in a zip"),
        pytest.param("m.zip", zip_of("big", b"\0" * (300 * 2**20)), "ArchiveUnsafe", id="a bomb"),
        pytest.param("m.zip", zip_of("model.py", GOOD_PY.encode())[:-20], "ArtifactCorrupt", id="a truncated zip"),
        pytest.param(
            "m.tar.gz",
            tar_of("model.py", content=GOOD_PY.encode() * 50)[:-40],
            "ArtifactCorrupt",
            id="a truncated tar",
        ),
    ],
)
def test_a_bad_archive_is_told_by_its_reason(start, tmp_path, name, archive, reason):
    (tmp_path / name).write_bytes(archive)
    error = start(f"file://{tmp_path / name}", trusted=True)
    assert (error.reason, exit_code(error)) == (reason, PERMANENT_ARTIFACT)
    assert_seen(error)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("settings", "code", "reason", "message"),
    [
        pytest.param(
            {"uri": "file:///no/such"},
            PERMANENT_ARTIFACT,
            "ArtifactNotFound",
            "does not exist",
            id="nothing there",
        ),
        pytest.param(
            {"uri": "ftp://host/x"},
            SETTINGS,
            "SettingsInvalid",
            "unknown scheme 'ftp'",
            id="an unknown scheme",
        ),
        pytest.param({"uri": "/models/x"}, SETTINGS, "SettingsInvalid", "no scheme", id="a path for a URI"),
        pytest.param({"uri": "s3://bucket"}, SETTINGS, "SettingsInvalid", "names no object", id="a bucket alone"),
        pytest.param(
            {"workers": "two"},
            SETTINGS,
            "SettingsInvalid",
            "MODEL_SERVER_WORKERS: ",
            id="a word for a number",
        ),
        pytest.param(
            {"workrs": 2},
            SETTINGS,
            "SettingsInvalid",
            "MODEL_SERVER_WORKRS is not a setting",
            id="an unknown setting",
        ),
        pytest.param(
            {"sha256": "0" * 64},
            PERMANENT_ARTIFACT,
            "DigestMismatch",
            "is pinned",
            id="another file than the pinned",
        ),
        pytest.param(
            {"trusted": False},
            PERMANENT_ARTIFACT,
            "ArtifactNotTrusted",
            "neither pinned nor trusted",
            id="code nobody vouched for",
        ),
        pytest.param(
            {"format": "onnx"},
            PERMANENT_ARTIFACT,
            "FormatMismatch",
            "format onnx was asked for",
            id="not the format asked for",
        ),
        pytest.param(
            {
                "uri": "s3://b/k",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "request_timeout_seconds": 1,
            },
            STORAGE,
            "StorageUnavailable",
            "s3://b/k could not be read",
            id="storage that does not answer",
        ),
    ],
)
def test_bad_settings_are_told_by_their_reason(start, tmp_path, settings, code, reason, message):
    folder = tmp_path / "package"
    folder.mkdir()
    joblib.dump([1], folder / "model.joblib")
    given = {"uri": f"file://{folder}", "trusted": True} | settings
    error = start(given.pop("uri"), **given)
    assert error.reason == reason
    assert message in error.message
    assert (error.permanent, exit_code(error)) == (code != STORAGE, code)
    assert_seen(error)


@pytest.mark.parametrize(
    ("settings", "code", "reason"),
    [
        pytest.param({}, PERMANENT_ARTIFACT, "ArtifactNotFound", id="an artifact at fault"),
        pytest.param({"port": "http"}, SETTINGS, "SettingsInvalid", id="a setting at fault"),
    ],
)
def test_the_process_leaves_its_reason_and_an_exit_code(serve, settings, code, reason):
    server = serve("file:///no/such/model", **settings)
    assert server.wait_exit() == code, server.describe()
    told = server.termination()
    assert told.keys() == {"reason", "message", "hint", "permanent"}
    assert (told["reason"], told["permanent"]) == (reason, True)


def test_an_archive_of_too_many_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as bundle:
        for number in range(4):
            bundle.writestr(f"{number}.txt", "x")
    with pytest.raises(ArchiveUnsafe, match="holds more than 3 files") as caught:
        unpack(tmp_path / "m.zip", tmp_path / "into", ArchiveLimits(entries=3))
    assert_seen(caught.value)


class Attack:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("suffix", ["pkl", "joblib"])
def test_the_refusal_of_a_pickle_names_what_it_would_call(start, tmp_path, suffix):
    folder = tmp_path / "package"
    folder.mkdir()
    write(folder, {f"model.{suffix}": pickle.dumps([1, Attack(tmp_path / "proof")])})
    error = start(f"file://{folder}")
    assert error.reason == "ArtifactNotTrusted"
    assert "would call posix.system" in error.message
    assert "who made this file" in error.hint
    assert not (tmp_path / "proof").exists()


def test_the_pin_in_the_hint_makes_the_package_loadable(start, serve, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    write(folder, {"model.py": GOOD_PY})
    pin = start(f"file://{folder}").hint.split("sha256 to ")[1][:64]
    server = serve(f"file://{folder}", sha256=pin).wait_ready()
    assert server.client.post("/predict", json={"instances": [[1]]}).json()["predictions"] == [0]


@pytest.mark.parametrize("kind", ["gztar", "zip"])
def test_an_archive_of_a_package_is_a_package(serve, tmp_path, kind):
    folder = tmp_path / "inner" / "package"
    write(folder, {"model.py": GOOD_PY, "model.yaml": "version: 9"})
    archive = shutil.make_archive(str(tmp_path / "package"), kind, tmp_path / "inner")
    server = serve(f"file://{archive}", trusted=True).wait_ready()
    answer = server.client.post("/predict", json={"instances": ["any", {"thing": 1}]})
    assert json.loads(answer.content) == {"predictions": [0, 0], "model_name": "model", "model_version": "9"}


def test_what_macos_adds_to_an_archive_is_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as bundle:
        for name in ("wine/model.py", "wine/.DS_Store", "wine/._model.py", "__MACOSX/wine/._model.py"):
            bundle.writestr(name, "x")
    root = unpack(tmp_path / "m.zip", tmp_path / "out", ArchiveLimits())
    assert [path.name for path in root.iterdir()] == ["model.py"]
