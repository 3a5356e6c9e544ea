"""Formats and sources of other packages: installed, they are known without a change to the server."""

from __future__ import annotations

import json
import os

import pytest

FORMAT = """
from model_server.package.formats import Format

FORMAT = Format(
    name="constant",
    suffixes=(".constant",),
    begins=(b"constant:",),
    signatures=(b"constant:",),
    description="models that always say the same",
    loader="extra_models.runtime:load",
)
NOT_A_FORMAT = 1
"""

RUNTIME = """
import numpy as np
from model_server.domain.model import Signature


class Constant:
    signature = Signature(feature_names=("a", "b"), feature_count=2)
    probability_output = ""
    classes = ()
    runs_inline = True

    def __init__(self, value):
        self._value = value

    def predict(self, inputs, *, probabilities):
        (rows,) = inputs.values()
        return {"predict": np.full(len(rows), self._value)}


def load(package, *, threads):
    return Constant(float(package.artifacts[0].read_text().removeprefix("constant:")))
"""

SOURCE = """
from pathlib import Path


def fetch(uri, into, *, environ, progress):
    content = b"constant:" + uri.removeprefix("memory://").encode()
    progress.expect(len(content))
    target = Path(into) / "model.bin"
    target.write_bytes(content)
    progress.advance(len(content))
    return target


def fingerprint(uri, *, environ):
    return uri
"""

ENTRY_POINTS = """
[modeldeploy.formats]
constant = extra_models:FORMAT
{more}
[modeldeploy.sources]
memory = extra_models.source
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as pip leaves it: modules, and a folder that says what it registers."""

    def install(more: str = "") -> None:
        site = tmp_path / "site"
        package, info = site / "extra_models", site / "extra_models-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text(FORMAT)
        (package / "runtime.py").write_text(RUNTIME)
        (package / "source.py").write_text(SOURCE)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-models\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS.format(more=more))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))

    return install


def test_a_format_and_a_source_of_another_package_serve(serve, installed):
    installed()
    server = serve("memory://4.5").wait_ready()
    answer = server.client.post("/predict", json={"instances": [{"a": 1, "b": 2}, [3, 4]]})
    assert answer.json()["predictions"] == [4.5, 4.5]
    assert 'format="constant"' in server.client.get("/metrics").text


def test_a_format_of_another_package_is_found_by_its_files_name(serve, installed, tmp_path):
    installed()
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.constant").write_text("constant:2")
    server = serve(f"file://{folder}", format="constant").wait_ready()
    assert server.client.post("/predict", json={"instances": [[3, 4]]}).json()["predictions"] == [2.0]


@pytest.mark.parametrize(
    ("uri", "settings", "reason", "said"),
    [
        pytest.param("memory2://1", {}, "SettingsInvalid", "memory://", id="an unknown scheme lists the package's"),
        pytest.param("memory://1", {"format": "nope"}, "FormatUnknown", "constant", id="an unknown format too"),
        pytest.param("memory://1", {"format": "broken"}, "DependencyMissing", "extra_models.nothing", id="no module"),
        pytest.param("memory://1", {"format": "wrong"}, "SettingsInvalid", "is no Format", id="another object"),
    ],
)
def test_what_cannot_be_used_is_named(serve, installed, uri, settings, reason, said):
    installed(more="broken = extra_models.nothing:FORMAT\nwrong = extra_models:NOT_A_FORMAT\n")
    server = serve(uri, **settings)
    assert server.wait_exit() != 0
    told = server.termination()
    assert told["reason"] == reason
    assert said in json.dumps(told)


def test_a_plug_in_that_is_broken_harms_no_other_format(serve, installed, wine):
    installed(more="broken = extra_models.nothing:FORMAT\n")
    server = serve(wine.uri, trusted=True).wait_ready()
    assert "format broken is not available" in server.log.read_text()


def test_the_built_in_ones_are_registered_as_others_are():
    from importlib.metadata import distribution

    own = {(entry.group, entry.name) for entry in distribution("modeldeploy").entry_points}
    assert {("modeldeploy.formats", "onnx"), ("modeldeploy.sources", "s3")} <= own
