"""Which format a package is in."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pytest

from model_server.errors import ArtifactNotTrusted, DependencyMissing, FormatAmbiguous, FormatMismatch, FormatUnknown
from model_server.package.formats import choose, known_formats, named_format
from model_server.package.pickle_scan import dangerous_calls
from model_server.package.trust import require_trust
from model_server.runtimes import load_model

BYTES = {"joblib": b"\x80\x04", "pkl": b"\x80\x05", "onnx": b"\x08\x0a", "bin": b"\x80\x04", "dat": b"\x00"}
BYTES |= {"pt2": b"PK\x03\x04", "keras": b"PK\x03\x04", "h5": b"\x89HDF", "pmml": b"<?xml"}


def first_bytes(name):
    return BYTES.get(name.lower().rsplit(".", 1)[-1], b"text")


@pytest.mark.parametrize(
    ("files", "wanted", "artifacts", "format_name", "chosen"),
    [
        pytest.param(["model.joblib"], None, [], "sklearn", ["model.joblib"], id="by its name"),
        pytest.param(["weights.bin"], None, [], "sklearn", ["weights.bin"], id="by its first bytes"),
        pytest.param(["model.pt2"], None, [], "torchscript", ["model.pt2"], id="a program of torch.export"),
        pytest.param(["model.keras"], None, [], "keras", ["model.keras"], id="a Keras archive"),
        pytest.param(["model.h5"], None, [], "keras", ["model.h5"], id="a Keras model in HDF5"),
        pytest.param(["model.pmml"], None, [], "pmml", ["model.pmml"], id="a PMML document"),
        pytest.param(["MODEL.ONNX"], None, [], "onnx", ["MODEL.ONNX"], id="capitals do not matter"),
        pytest.param(
            ["model.onnx", "model.yaml", "notes.md", "requirements.txt"],
            None,
            [],
            "onnx",
            ["model.onnx"],
            id="papers beside it are no models",
        ),
        pytest.param(
            ["model.py", "a.joblib"], None, [], "python", ["model.py"], id="model.py loads the files beside it"
        ),
        pytest.param(
            ["model.py", "a.joblib"], "sklearn", [], "sklearn", ["a.joblib"], id="a named format outranks model.py"
        ),
        pytest.param(["a.joblib", "b.onnx"], "onnx", [], "onnx", ["b.onnx"], id="a named format picks among two"),
        pytest.param(
            ["a.pkl", "b.pkl"], None, ["b.pkl", "a.pkl"], "sklearn", ["b.pkl", "a.pkl"], id="a pipeline keeps its order"
        ),
        pytest.param(["sub/a.pkl"], None, ["sub/a.pkl"], "sklearn", ["sub/a.pkl"], id="a named file may lie deeper"),
    ],
)
def test_a_format_is_found(files, wanted, artifacts, format_name, chosen):
    choice = choose(files, known_formats()[wanted] if wanted else None, artifacts, first_bytes)
    assert (choice.format.name, list(choice.artifacts)) == (format_name, chosen)


@pytest.mark.parametrize(
    ("files", "wanted", "artifacts", "error", "message"),
    [
        pytest.param(
            ["a.pkl", "b.pkl"],
            None,
            [],
            FormatAmbiguous,
            r"a\.pkl \(sklearn\), b\.pkl \(sklearn\)",
            id="two models without a word",
        ),
        pytest.param(
            ["a.pkl", "b.onnx"],
            None,
            ["a.pkl", "b.onnx"],
            FormatAmbiguous,
            "onnx, sklearn",
            id="a pipeline of two formats",
        ),
        pytest.param(
            ["b.onnx", "c.onnx"],
            None,
            ["b.onnx", "c.onnx"],
            FormatMismatch,
            "scikit-learn objects only",
            id="a pipeline of graphs",
        ),
        pytest.param(
            ["a.pkl"],
            None,
            ["b.pkl"],
            FormatUnknown,
            "names 'b.pkl', and the package holds a.pkl",
            id="a named file that is absent",
        ),
        pytest.param(["x.dat"], None, [], FormatUnknown, "among x.dat", id="nothing known"),
        pytest.param(["sub/a.pkl"], None, [], FormatUnknown, "no model", id="files below the top are not guessed at"),
        pytest.param(["a.pkl"], "python", [], FormatMismatch, "needs model.py", id="python without model.py"),
        pytest.param(["model.py"], "onnx", [], FormatMismatch, "format onnx was asked for", id="onnx without a graph"),
    ],
)
def test_what_is_not_clear_is_an_error(files, wanted, artifacts, error, message):
    with pytest.raises(error, match=message):
        choose(files, known_formats()[wanted] if wanted else None, artifacts, first_bytes)


def test_an_unknown_name_lists_the_known_ones():
    assert named_format("auto", "x") is None
    with pytest.raises(FormatUnknown) as caught:
        named_format("caffe", "format in model.yaml")
    assert all(name in caught.value.hint for name in known_formats())


@pytest.mark.parametrize(
    ("name", "trusted", "allowed"),
    [
        pytest.param("onnx", False, True, id="plain data needs nobody's word"),
        pytest.param("sklearn", False, False, id="code that nobody vouched for is refused"),
        pytest.param("sklearn", True, True, id="somebody vouched"),
        pytest.param("python", False, False, id="model.py is code"),
        pytest.param("torchscript", False, False, id="PyTorch runs code"),
        pytest.param("keras", False, False, id="Keras runs code"),
        pytest.param("pmml", False, True, id="PMML is plain data"),
    ],
)
def test_trust(name, trusted, allowed):
    if allowed:
        require_trust(known_formats()[name], trusted=trusted, digest="d")
        return
    with pytest.raises(ArtifactNotTrusted) as caught:
        require_trust(known_formats()[name], trusted=trusted, digest="abc123")
    assert "abc123" in caught.value.hint
    assert "skops and ONNX" in caught.value.hint


def test_a_library_that_the_system_cannot_load_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("lightgbm", "model_server.runtimes.lightgbm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    package = SimpleNamespace(format=known_formats()["lightgbm"])
    with pytest.raises(DependencyMissing, match=r"lightgbm is installed and cannot be loaded: libgomp\.so\.1") as told:
        load_model(package, threads=1)
    assert "libgomp1" in told.value.hint


def test_an_array_within_a_pickle_is_no_error_in_the_log(tmp_path, caplog):
    joblib.dump({"weights": np.arange(64.0)}, tmp_path / "model.joblib")
    assert dangerous_calls([tmp_path / "model.joblib"]) == []
    assert caplog.messages == []


def test_scikit_learn_comes_without_pandas():
    asked = """
import sys
from model_server.runtimes.sklearn import import_scikit_learn
import_scikit_learn()
print("sklearn" in sys.modules, "pandas" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert told == "True False\n"
