"""A package's requirements, installed on request from an index that is at hand."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from model_server.package.child_environment import environment_of_child

MODEL = """
import small_library
def load_model(path): return 1
def predict(model, inputs): return [small_library.ANSWER] * len(inputs)
"""


def make_wheel(folder: Path) -> None:
    """A real wheel of a library that no image has."""
    folder.mkdir()
    about = "small_library-1.5.dist-info"
    with zipfile.ZipFile(folder / "small_library-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_library.py", "ANSWER = 42\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: small-library\nVersion: 1.5\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


def identity_graph() -> onnx.ModelProto:
    """The smallest model that is plain data."""
    row = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [row], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def package(tmp_path, monkeypatch):
    make_wheel(tmp_path / "index")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "requirements.txt").write_text("small-library==1.5\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return folder


def test_requirements_are_installed_when_asked_for(serve, package, tmp_path):
    server = serve(
        f"file://{package}", trusted=True, install_requirements=True, model_dir=tmp_path / "cache"
    ).wait_ready()
    assert server.client.post("/predict", json={"instances": [[1]]}).json()["predictions"] == [42]
    assert len(list((tmp_path / "cache").glob("requirements-*"))) == 1
    assert server.terminate() == 0


@pytest.mark.parametrize(
    ("requirement", "settings", "code", "message"),
    [
        pytest.param("small-library==1.5", {}, 65, "small-library 1.5 needed, none installed", id="not asked for"),
        pytest.param(
            "small-library==2", {"install_requirements": True}, 65, "cannot be installed: ERROR", id="no such version"
        ),
        pytest.param(
            "small-library==1.5",
            {"install_requirements": True, "workers": 2},
            78,
            "do not go together",
            id="several workers",
        ),
    ],
)
def test_what_cannot_be_installed_is_told(serve, package, tmp_path, requirement, settings, code, message):
    (package / "requirements.txt").write_text(requirement + "\n")
    server = serve(f"file://{package}", trusted=True, model_dir=tmp_path / "cache", **settings)
    assert server.wait_exit() == code, server.describe()
    assert message in server.termination()["message"]


PROBE = """
import os, pathlib
from setuptools import setup
pathlib.Path(os.environ["HOME"], "ran").write_text(repr(dict(os.environ)))
setup(name="small-library", version="1.5", py_modules=[])
"""


def make_source(folder: Path) -> None:
    """A source distribution whose building runs code, beside no wheel."""
    folder.mkdir()
    with tarfile.open(folder / "small-library-1.5.tar.gz", "w:gz") as archive:
        for name, text in (
            ("setup.py", PROBE),
            ("PKG-INFO", "Metadata-Version: 2.1\nName: small-library\nVersion: 1.5\n"),
        ):
            entry = tarfile.TarInfo(f"small-library-1.5/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def test_what_runs_no_code_when_it_is_loaded_does_when_it_is_installed(serve, package, tmp_path):
    (package / "model.py").unlink()
    onnx.save(identity_graph(), package / "model.onnx")
    server = serve(f"file://{package}", install_requirements=True, model_dir=tmp_path / "cache")
    assert server.wait_exit() == 65, server.describe()
    assert "neither pinned nor trusted" in server.termination()["message"]
    assert not list((tmp_path / "cache").glob("requirements-*"))


@pytest.mark.parametrize(
    "requirement",
    [
        "small-library @ https://user:s3cret@example.com/small_library-1.5-py3-none-any.whl",
        "small-library @ git+https://user:s3cret@example.com/library.git",
        "small-library @ file:///etc/passwd",
    ],
)
def test_addresses_are_refused_by_name(serve, package, tmp_path, requirement):
    (package / "requirements.txt").write_text(requirement + "\n")
    server = serve(f"file://{package}", trusted=True, install_requirements=True, model_dir=tmp_path / "cache")
    assert server.wait_exit() == 65, server.describe()
    told = server.termination()["message"]
    assert "names addresses" in told
    assert "small-library @ " in told
    assert "s3cret" not in told


def test_nothing_is_built(serve, package, tmp_path, monkeypatch):
    make_source(tmp_path / "sources")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "sources"))
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(f"file://{package}", trusted=True, install_requirements=True, model_dir=tmp_path / "cache")
    assert server.wait_exit() == 65, server.describe()
    assert "cannot be installed" in server.termination()["message"]
    assert not (tmp_path / "ran").exists()


def test_pip_sees_its_settings_and_no_credentials():
    seen = environment_of_child(
        {
            "PATH": "/bin",
            "PIP_INDEX_URL": "x",
            "https_proxy": "p",
            "AWS_SECRET_ACCESS_KEY": "s",
            "MODEL_SERVER_NAME": "m",
        },
        prefix="PIP_",
    )
    assert seen == {"PATH": "/bin", "PIP_INDEX_URL": "x", "https_proxy": "p"}
