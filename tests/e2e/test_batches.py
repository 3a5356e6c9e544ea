"""Batches: every row once, whatever dies."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from waiting import wait_until

from modeldeploy.kube import MODELBATCHES as BATCHES
from modeldeploy.kube import MODELDEPLOYMENTS, Resource

DOUBLE = """
import time
def load_model(path): return 1
def predict(model, inputs):
    time.sleep({pause})
    return inputs[:, 0] * {factor}
"""


@pytest.fixture
def home(space: Any, tmp_path: Path) -> Path:
    """A folder for tables and packages that pods can read."""
    if space.cluster.running is None:
        pytest.skip("pods of this cluster do not see the files of this machine")
    return tmp_path


def package(home: Path, *, pause: float = 0, factor: int = 2) -> str:
    folder = home / f"model-{factor}-{pause}"
    folder.mkdir()
    (folder / "model.py").write_text(DOUBLE.format(pause=pause, factor=factor))
    (folder / "model.yaml").write_text("input_features: [{name: a}]\n")
    return folder.as_uri()


def table(home: Path, rows: int) -> str:
    text = "".join(f"{index},row {index}\n" for index in range(rows))
    (home / "in.csv").write_text(f"a,id\n{text}")
    return (home / "in.csv").as_uri()


def apply(space: Any, name: str, **spec: Any) -> None:
    body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelBatch", "metadata": {"name": name}, "spec": spec}
    space.kube.apply(BATCHES, body)


def status(space: Any, name: str) -> dict[str, Any]:
    space.cluster.check()
    return space.kube.get(BATCHES, name).get("status", {})


def ended(space: Any, name: str, phase: str = "Complete", seconds: float = 120) -> dict[str, Any]:
    """Wait for the end of a batch, which must be this one."""
    over = lambda: (found := status(space, name)).get("phase") in ("Complete", "Failed") and found  # noqa: E731
    found = wait_until(over, f"batch {name} is over", seconds=seconds)
    assert found["phase"] == phase, found
    return found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    parts = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def package_of(home: Path, **shape: Any) -> dict[str, Any]:
    return {"storageUri": package(home, **shape), "trusted": True}


def undisturbed(home: Path, model: dict[str, Any], shards: int) -> Path:
    """The output of one process that predicts all shards."""
    out = home / "undisturbed"
    settings = {"STORAGE_URI": model["storageUri"], "TRUSTED": "true", "HOST": "127.0.0.1", "PORT": "0"}
    environ = os.environ | {f"MODEL_SERVER_{name}": value for name, value in settings.items()}
    environ |= {"MODEL_SERVER_TERMINATION_LOG": str(home / "termination")}
    words = ["batch", "--input", (home / "in.csv").as_uri(), "--output", out.as_uri(), "--shards", str(shards)]
    subprocess.run([sys.executable, "-m", "model_server", *words], env=environ, check=True, capture_output=True)
    return out


def parts_of(folder: Path) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in folder.glob("part-*")}


def test_a_batch_predicts_every_row_once_in_order(space: Any, home: Path) -> None:
    source, out = {"uri": table(home, 1000)}, {"uri": (home / "out").as_uri()}
    apply(space, "plain", model=package_of(home), input=source, output=out, shards=3, parallelism=2)
    found = ended(space, "plain")
    assert [row["prediction"] for row in rows_of(home / "out")] == [index * 2 for index in range(1000)]
    assert (found["rows"], found["shardsDone"], found["percent"]) == (1000, "3/3", 100)
    assert len(found["model"]["sha256"]) == 64
    assert json.loads((home / "out" / "_SUCCESS").read_text()) == {"rows": 1000, "failedRows": 0, "shards": 3}
    command = [sys.executable, "-m", "modeldeploy", "--kubeconfig", str(space.kubeconfig), "batch", "plain", "--wait"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("plain: Complete  [########################] 100%  1,000 rows")


@pytest.mark.timeout(270)
def test_twenty_shards_whose_pods_are_all_killed_once_give_the_same_bytes(space: Any, home: Path) -> None:
    model, source = package_of(home, pause=2), {"uri": table(home, 2000)}
    out = home / "out"
    apply(space, "killed", model=model, input=source, output={"uri": out.as_uri()}, shards=20, parallelism=5)
    killed: dict[int, int] = {}

    def kill_each_once() -> bool:
        for one in processes_of(out):
            index = int(one.environ["JOB_COMPLETION_INDEX"])
            if index not in killed:
                os.kill(one.pid, 9)
                killed[index] = one.pid
        return status(space, "killed").get("phase") in ("Complete", "Failed")

    wait_until(kill_each_once, "the batch is over", seconds=240)
    found = ended(space, "killed")
    assert sorted(killed) == list(range(20))
    assert found["rows"] == 2000
    assert parts_of(out) == parts_of(undisturbed(home, package_of(home), 20))


@dataclass(frozen=True)
class Process:
    """A process of a shard."""

    pid: int
    environ: dict[str, str]


def processes_of(out: Path) -> list[Process]:
    """The processes of this machine that write to an output folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"batch" in command and out.as_uri().encode() in command:
                pairs = (folder / "environ").read_bytes().decode().split("\0")
                found.append(Process(int(folder.name), dict(pair.split("=", 1) for pair in pairs if "=" in pair)))
        except (OSError, ValueError):
            continue
    return [one for one in found if "JOB_COMPLETION_INDEX" in one.environ]


BROKEN = "a,id\n1,one\nmuch,two\n3\n4,four\n"


@pytest.mark.parametrize(
    ("word", "phase", "ids", "failed"),
    [
        pytest.param("fail", "Failed", [], 0, id="fail ends the batch"),
        pytest.param("skip", "Complete", ["one", "four"], 2, id="skip leaves them out"),
        pytest.param("quarantine", "Complete", ["one", "four"], 2, id="quarantine keeps them apart"),
    ],
)
def test_bad_rows(space: Any, home: Path, word: str, phase: str, ids: list[str], failed: int) -> None:
    (home / "in.csv").write_text(BROKEN)
    source, out = {"uri": (home / "in.csv").as_uri()}, {"uri": (home / "out").as_uri()}
    apply(space, f"bad-{word}", model=package_of(home), input=source, output=out, onBadRow=word)
    found = ended(space, f"bad-{word}", phase)
    assert [row["id"] for row in rows_of(home / "out")] == ids
    if phase == "Failed":
        assert "in.csv, byte 11 (line 3): a: expected a number, got" in found["message"]
        assert next(one["reason"] for one in found["conditions"] if one["type"] == "Failed") == "BadRow"
        return
    assert (found["rows"], found["failedRows"]) == (4, failed)
    kept = [line for file in (home / "out").glob("_quarantine/*") for line in file.read_text().splitlines()]
    places = [json.loads(line)["place"] for line in kept]
    assert places == (["in.csv, byte 11", "in.csv, byte 20"] if word == "quarantine" else [])


def test_the_operator_may_be_killed_in_the_middle(space: Any, home: Path) -> None:
    model, source, out = package_of(home, pause=1), {"uri": table(home, 500)}, home / "out"
    apply(space, "orphan", model=model, input=source, output={"uri": out.as_uri()}, shards=4, parallelism=2)
    wait_until(lambda: processes_of(out), "a shard runs", seconds=60)
    space.cluster.running.operator.kill()
    assert ended(space, "orphan")["rows"] == 500
    assert len(rows_of(out)) == 500


def test_a_batch_stays_with_the_revision_that_was_stable(space: Any, home: Path) -> None:
    models = {factor: package(home, factor=factor, pause=3 if factor == 2 else 0) for factor in (2, 3)}
    serve(space, "pinned", models[2])
    wait_until(lambda: mdep(space, "pinned").get("stableRevision"), "it is stable", seconds=60)
    first = mdep(space, "pinned")["stableRevision"]
    source, out = {"uri": table(home, 300)}, home / "out"
    apply(space, "kept", model={"name": "pinned"}, input=source, output={"uri": out.as_uri()}, shards=6)
    wait_until(lambda: processes_of(out), "a shard runs", seconds=60)
    serve(space, "pinned", models[3])
    wait_until(lambda: mdep(space, "pinned")["stableRevision"] != first, "another is stable", seconds=90)
    found = ended(space, "kept")
    assert found["model"]["revision"] == first
    assert [row["prediction"] for row in rows_of(out)] == [index * 2 for index in range(300)]


def test_a_batch_goes_on_without_its_model(space: Any, home: Path) -> None:
    serve(space, "gone", package(home, pause=2))
    wait_until(lambda: mdep(space, "gone").get("phase") == "Healthy", "it is live", seconds=60)
    source, out = {"uri": table(home, 200)}, home / "out"
    apply(space, "heir", model={"name": "gone"}, input=source, output={"uri": out.as_uri()}, shards=4)
    wait_until(lambda: processes_of(out), "a shard runs", seconds=60)
    space.kube.delete(MODELDEPLOYMENTS, "gone")
    assert ended(space, "heir")["rows"] == 200
    assert [row["prediction"] for row in rows_of(out)] == [index * 2 for index in range(200)]


def test_a_package_of_a_batch_may_have_to_be_signed(space: Any, home: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (home / "our.key").write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "signer"},
        "data": {"model.pub": public},
    }
    space.kube.apply(Resource("", "v1", "configmaps"), config_map)
    uri, source = package(home), {"uri": table(home, 10)}
    model = {"storageUri": uri, "signature": {"publicKey": {"configMapName": "signer", "key": "model.pub"}}}
    apply(space, "unsigned", model=model, input=source, output={"uri": (home / "no").as_uri()})
    found = ended(space, "unsigned", "Failed")
    assert next(one["reason"] for one in found["conditions"] if one["type"] == "Failed") == "SignatureMissing"
    words = ["package", uri.removeprefix("file://"), "--sign", str(home / "our.key")]
    subprocess.run([sys.executable, "-m", "modeldeploy", *words], check=True, capture_output=True)
    apply(space, "signed", model=model, input=source, output={"uri": (home / "yes").as_uri()})
    assert ended(space, "signed")["rows"] == 10


def serve(space: Any, name: str, uri: str) -> None:
    spec = {"model": {"storageUri": uri, "trusted": True}}
    body = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }
    space.kube.apply(MODELDEPLOYMENTS, body)


def mdep(space: Any, name: str) -> dict[str, Any]:
    return space.kube.get(MODELDEPLOYMENTS, name).get("status", {})


@pytest.mark.timeout(240)
def test_a_batch_waits_for_its_model(space: Any, home: Path) -> None:
    source, out = {"uri": table(home, 10)}, home / "out"
    apply(space, "early", model={"name": "late"}, input=source, output={"uri": out.as_uri()})
    wait_until(lambda: "no ModelDeployment 'late'" in status(space, "early").get("message", ""), "it waits")
    assert status(space, "early")["phase"] == "Pending"
    serve(space, "late", (home / "absent").as_uri())
    wait_until(lambda: "has no stable revision yet" in status(space, "early").get("message", ""), "it waits for it")
    serve(space, "late", package(home))
    assert ended(space, "early")["rows"] == 10


@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_a_schedule_starts_runs(space: Any, home: Path) -> None:
    source, out = {"uri": table(home, 10)}, {"uri": (home / "{time}").as_uri().replace("%7B", "{").replace("%7D", "}")}
    apply(space, "clock", model=package_of(home), input=source, output=out, schedule="* * * * *")
    wait_until(lambda: status(space, "clock").get("lastSuccessfulTime"), "a run succeeded", seconds=130)
    last = datetime.fromisoformat(status(space, "clock")["lastScheduleTime"]).astimezone(UTC)
    assert last.second == 0
    assert any((folder / "_SUCCESS").exists() for folder in home.glob("2*Z"))
    assert (
        space.kube.get(BATCHES, f"clock-{int(last.timestamp()) // 60}")["metadata"]["ownerReferences"][0]["name"]
        == "clock"
    )
    space.kube.delete(BATCHES, "clock")


@pytest.mark.parametrize(
    ("name", "before", "spec", "told"),
    [
        pytest.param("taken", "x", {}, "is not empty: it holds other, which no batch planned", id="a taken output"),
        pytest.param("nothing", "", {"uri": "/none*.csv"}, "matches no file", id="an input that matches nothing"),
        pytest.param("strange", "", {"uri": "/in.xls"}, "in.xls is no table that is read here", id="an unknown format"),
    ],
)
def test_what_ends_a_batch(space: Any, home: Path, name: str, before: str, spec: dict[str, str], told: str) -> None:
    table(home, 3)
    (home / "in.xls").write_text("x")
    (home / "out").mkdir()
    if before:
        (home / "out" / "other").write_text(before)
    source = {"uri": home.as_uri() + spec.get("uri", "/in.csv")}
    apply(space, name, model=package_of(home), input=source, output={"uri": (home / "out").as_uri()})
    assert told in ended(space, name, "Failed")["message"]
