"""A package's requirements, installed on request from an index that is at hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

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
