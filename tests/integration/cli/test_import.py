"""`modeldeploy import` as a user runs it: files, the table of findings, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from modeldeploy.__main__ import main
from modeldeploy.app import build
from modeldeploy.requests import Refused

SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    containerConcurrency: 3
    model:
      modelFormat: {{name: onnx}}
      storageUri: gs://public/{name}
"""
CONFIG = 'platform: "onnxruntime_onnx" max_batch_size: 1 input { name: "X" data_type: TYPE_FP32 dims: 1 }'


def run(*words: object) -> Result:
    return CliRunner().invoke(build(), ["import", *map(str, words)])


@pytest.fixture
def services(tmp_path: Path) -> Path:
    path = tmp_path / "services.yaml"
    others = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n---\n"
    path.write_text(others + "---".join(SERVICE.format(name=name) for name in ("one", "two")))
    return path


def test_each_model_has_a_folder(services: Path, tmp_path: Path) -> None:
    done = run(services, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for name in ("one", "two"):
        body = yaml.safe_load((tmp_path / "out" / name / "modeldeployment.yaml").read_text())
        assert body["spec"]["model"]["storageUri"] == f"gs://public/{name}"
        assert yaml.safe_load((tmp_path / "out" / name / "package" / "model.yaml").read_text())["name"] == name
        assert f"{tmp_path}/out/{name}/modeldeployment.yaml" in done.stdout.splitlines()
    (row, _) = (line for line in done.stderr.splitlines() if "containerConcurrency" in line)
    assert row.split()[:3] == ["spec.predictor.containerConcurrency", "no", "counterpart"]
    assert f"{services}: left out, as these kinds are not imported: Secret s" in done.stderr
    assert run("x", "-o", "y").exit_code != 0


def test_a_server_of_ones_own_has_no_package(tmp_path: Path) -> None:
    container = {"name": "c", "image": "mine:1", "ports": [{"containerPort": 9000}], "protocolVersion": "v2"}
    service = yaml.safe_load(SERVICE.format(name="mine")) | {"spec": {"predictor": {"containers": [container]}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(service))
    done = run(tmp_path / "mine.yaml", "-o", tmp_path / "out")
    assert done.stdout.splitlines() == [f"{tmp_path}/out/mine/modeldeployment.yaml"]
    assert [one.name for one in (tmp_path / "out" / "mine").iterdir()] == ["modeldeployment.yaml"]
    assert "model" not in yaml.safe_load((tmp_path / "out" / "mine" / "modeldeployment.yaml").read_text())["spec"]


def test_strict_fails_when_something_is_lost(services: Path, tmp_path: Path) -> None:
    assert run(services, "-o", tmp_path / "a", "--strict").exit_code == 1
    services.write_text(SERVICE.format(name="one").replace("    containerConcurrency: 3\n", ""))
    assert run(services, "-o", tmp_path / "b", "--strict").exit_code == 0


def test_nothing_is_written_over_without_force(services: Path, tmp_path: Path) -> None:
    assert run(services, "-o", tmp_path / "out").exit_code == 0
    again = run(services, "-o", tmp_path / "out")
    assert isinstance(again.exception, Refused)
    assert "write over it with --force" in str(again.exception)
    assert run(services, "-o", tmp_path / "out", "--force").exit_code == 0


def test_a_repository_with_several_models(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "repository" / name / "1").mkdir(parents=True)
        (tmp_path / "repository" / name / "1" / "model.onnx").write_bytes(b"\x08")
        (tmp_path / "repository" / name / "config.pbtxt").write_text(CONFIG)
    done = run(tmp_path / "repository", "-o", tmp_path / "out", "--storage-uri", "s3://models/all/")
    assert done.exit_code == 0, done.output
    uris = [yaml.safe_load(one.read_text())["spec"]["model"]["storageUri"] for one in tmp_path.glob("out/*/*.yaml")]
    assert sorted(uris) == ["s3://models/all/a", "s3://models/all/b"]
    assert (tmp_path / "out" / "a" / "package" / "model.onnx").read_bytes() == b"\x08"
    assert "on this machine only" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param("a.yaml", "kind: Service\n", "known are InferenceService (serving.kserve.io)", id="another kind"),
        pytest.param("a.yaml", "{", "is no YAML", id="no YAML"),
        pytest.param("a.json", "{", "is no JSON", id="no JSON"),
        pytest.param("a.txt", "x", "is nothing that is imported; what is known: a manifest", id="another file"),
        pytest.param("config.pbtxt", "a b", "line 1: a has no value", id="no text of protocol buffers"),
        pytest.param("a.yaml", "#" * (1 << 20) + "#", "is larger than 1 MiB", id="too large"),
        pytest.param("a.yaml", "[" * 500, "is no YAML", id="too deep"),
        pytest.param(
            "model-settings.json",
            json.dumps({"implementation": "mine.Model"}),
            "implementation: 'mine.Model' cannot be imported",
            id="a runtime of one's own",
        ),
    ],
)
def test_bad_input_is_refused_by_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    done = run(tmp_path / name, "-o", tmp_path / "out")
    assert isinstance(done.exception, Refused), done.output
    assert f"{tmp_path / name}: " in str(done.exception)
    assert said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_every_model_that_is_refused_is_named_at_once(services: Path, tmp_path: Path) -> None:
    old = SERVICE.replace("onnx", "paddle")
    services.write_text("---".join((SERVICE.format(name="one"), old.format(name="two"), old.format(name="three"))))
    (tmp_path / "model-settings.json").write_text(json.dumps({"implementation": "mine.Model"}))
    done = run(services, tmp_path / "model-settings.json", "-o", tmp_path / "out")
    two, three, mine = str(done.exception).splitlines()
    assert two.startswith(f"{services}: InferenceService two: spec.predictor.model.modelFormat.name: 'paddle' cannot")
    assert three.startswith(f"{services}: InferenceService three: ")
    assert mine.startswith(f"{tmp_path}/model-settings.json: implementation: ")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_says_what_is_known(tmp_path: Path) -> None:
    assert "has nothing to import" in str(run(tmp_path, "-o", tmp_path / "out").exception)


def test_two_models_of_one_name_do_not_go_into_one_folder(services: Path, tmp_path: Path) -> None:
    done = run(services, services, "-o", tmp_path / "out")
    assert "both have a model one" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.argv", ["modeldeploy", "import", "/nowhere.yaml", "-o", "/tmp"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "/nowhere.yaml" in capsys.readouterr().err
