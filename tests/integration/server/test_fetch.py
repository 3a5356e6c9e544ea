"""`python -m model_server fetch`: the artifact of a server that is not ours."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest


def fetch(target: Path, uri: str, tmp_path: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    given = {"STORAGE_URI": uri, "TERMINATION_LOG": tmp_path / "termination", **settings}
    environ = {**os.environ, **{f"MODEL_SERVER_{name}": str(value) for name, value in given.items()}}
    command = [sys.executable, "-m", "model_server", "fetch", str(target)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text("name: 'm'")
    (folder / "1" / "model.onnx").write_bytes(b"weights")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_is_there_as_it_was(tmp_path: Path, artifact: Path) -> None:
    target = tmp_path / "models"
    assert fetch(target, artifact.as_uri(), tmp_path).returncode == 0
    assert files(target) == files(artifact)


def test_another_user_of_the_pod_can_read_it(tmp_path: Path, artifact: Path) -> None:
    target = tmp_path / "models"
    (artifact / "1").chmod(0o700)
    (artifact / "1" / "model.onnx").chmod(0o600)
    (artifact / "config.pbtxt").chmod(0o700)
    assert fetch(target, artifact.as_uri(), tmp_path).returncode == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in target.rglob("*")}
    assert modes == {"1": 0o755, "model.onnx": 0o644, "config.pbtxt": 0o755}


def test_a_link_leads_to_other_files_of_the_package_and_nowhere_else(tmp_path: Path, artifact: Path) -> None:
    target, secret = tmp_path / "models", tmp_path / "secret"
    secret.write_text("key")
    (artifact / "newest").symlink_to("1")
    assert fetch(target, artifact.as_uri(), tmp_path).returncode == 0
    assert (target / "newest" / "model.onnx").read_bytes() == b"weights"
    (artifact / "stolen").symlink_to(secret)
    assert fetch(target, artifact.as_uri(), tmp_path).returncode == 65
    said = json.loads((tmp_path / "termination").read_text())
    assert said["message"] == "stolen is a link that leads out of the package"


def test_an_archive_is_unpacked(tmp_path: Path, artifact: Path) -> None:
    archive, target = tmp_path / "model.tar.gz", tmp_path / "models"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(artifact, arcname=".")
    assert fetch(target, archive.as_uri(), tmp_path).returncode == 0
    assert files(target) == files(artifact)


def test_one_file_keeps_its_name(tmp_path: Path, artifact: Path) -> None:
    target, file = tmp_path / "models", artifact / "1" / "model.onnx"
    digest = hashlib.sha256(b"weights").hexdigest()
    assert fetch(target, file.as_uri(), tmp_path, SHA256=digest).returncode == 0
    assert files(target) == {"model.onnx": b"weights"}


def test_what_an_earlier_attempt_has_left_is_gone(tmp_path: Path, artifact: Path) -> None:
    target = tmp_path / "models"
    (target / "half" / "of").mkdir(parents=True)
    (target / "half" / "of" / "it").write_text("x")
    assert fetch(target, artifact.as_uri(), tmp_path).returncode == 0
    assert files(target) == files(artifact)


@pytest.mark.parametrize(
    ("uri", "settings", "code", "reason"),
    [
        pytest.param("", {"SHA256": "0" * 64}, 65, "DigestMismatch", id="another pin"),
        pytest.param("file:///no/such/model", {}, 65, "ArtifactNotFound", id="nothing there"),
        pytest.param("ftp://a/b", {}, 78, "SettingsInvalid", id="an unknown scheme"),
    ],
)
def test_a_failure_is_told_as_a_model_server_tells_it(
    tmp_path: Path, artifact: Path, uri: str, settings: dict[str, object], code: int, reason: str
) -> None:
    target = tmp_path / "models"
    done = fetch(target, uri or (artifact / "config.pbtxt").as_uri(), tmp_path, **settings)
    assert done.returncode == code
    assert json.loads((tmp_path / "termination").read_text())["reason"] == reason
    assert files(target) == {}
