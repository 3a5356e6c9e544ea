"""`modeldeploy serve`, with real processes: switches, refusals, a start without network, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import http_servers
import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from free_ports import free_port
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
ROW = {"a": 1.0, "b": 2.0}
GOOD = "(inputs[:, 0] > 0).astype(int)"
METADATA = """
version: "{version}"
input_features: [{{name: a, example: 1}}, {{name: b, example: 1}}]
output_features: [{{name: positive, dtype: int64, categories: [0, 1]}}]
"""


def write(folder: Path, version: str, says: str) -> None:
    """A package that starts quickly; put there at once, as an upload does."""
    fresh = folder.with_name("fresh")
    fresh.mkdir()
    code = "def load_model(path): return 1\ndef predict(model, inputs):\n    {}\n    return {}\n"
    check = "assert not (inputs[:, 1] == 2).any(), 'never seen'" if says == "raises" else ""
    (fresh / "model.py").write_text(code.format(check or "pass", GOOD if says == "raises" else says))
    (fresh / "model.yaml").write_text(METADATA.format(version=version))
    old = folder.with_name("old")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@dataclass
class Serving:
    """A running `modeldeploy serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def predict(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.post("/predict", json={"instances": [ROW]}).raise_for_status().json()
        return answer

    def version(self) -> str | None:
        with suppress(httpx.HTTPError):
            return str(self.predict()["model_version"])
        return None

    def metric(self, pattern: str) -> str:
        found = re.search(rf"^modeldeploy_edge_{pattern}$", self.client.get("/metrics").text, re.MULTILINE)
        return found[0] if found else ""

    def said(self, text: str) -> int:
        return self.log.read_text().count(text)

    def wait(self, check: Callable[[], Any]) -> Any:
        return wait_until(check, lambda: self.log.read_text()[-4000:], seconds=30)

    def children(self) -> set[int]:
        return {int(one) for one in children_of(self.process.pid)}


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts `modeldeploy serve URI OPTIONS...`; what still runs at the end of the test has to drain."""
    started: list[Serving] = []

    def start(uri: object, *options: object, before: tuple[str, ...] = ()) -> Serving:
        port, log = free_port(), tmp_path / f"log-{len(started)}"
        command = [*before, sys.executable, "-m", "modeldeploy", "serve", str(uri), "--port", str(port), "--trusted"]
        with log.open("wb") as output:
            environ = {**os.environ, "MODEL_SERVER_DRAIN_SECONDS": "1"}
            command += map(str, options)
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path, env=environ)
        started.append(Serving(process, port, log))
        return started[-1]

    yield start
    with ExitStack() as stack:
        for serving in started:
            stack.callback(end, serving)


def end(serving: Serving) -> None:
    serving.client.close()
    if serving.process.poll() is None:
        children = serving.children()
        serving.process.send_signal(signal.SIGTERM)
        try:
            assert serving.process.wait(30) == 0, serving.log.read_text()[-4000:]
        finally:
            serving.process.kill()
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@dataclass
class Load:
    """Clients that ask without a pause: some on a connection that stays, some on a new one each time."""

    port: int
    answered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, stays: bool) -> None:
        headers = {} if stays else {"connection": "close"}
        url = f"http://127.0.0.1:{self.port}/predict"
        with httpx.Client(timeout=30, trust_env=False, headers=headers) as client:
            while not self._end.wait(0.005):
                try:
                    answer = client.post(url, json={"instances": [ROW]}).raise_for_status()
                    self.answered.append(answer.json()["model_version"])
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))


def test_a_new_package_takes_over_under_load_without_a_failed_request(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    write(tmp_path / "model", "1", GOOD)
    serving = serve("model", "--poll", "200ms", "--judge-requests", 50)
    serving.wait(lambda: serving.version() == "1")
    first = serving.children()
    with Load(serving.port) as load:
        write(tmp_path / "model", "2", f"{GOOD} * 1")
        serving.wait(lambda: "2" in load.answered)
        # Until the first server has drained and ended, for a connection that it closed would fail a request.
        serving.wait(lambda: not first & serving.children())
        count = len(load.answered)
        serving.wait(lambda: len(load.answered) > count + 200)
    assert load.failed == []
    assert set(load.answered[-100:]) == {"2"}
    assert serving.metric(r'updates_total\{outcome="switched"\} 1.0')
    assert serving.said("50 of 50 requests are answered alike") == 1
    for path in ("/docs", "/v2/models/model", "/readyz"):
        assert serving.client.get(path).status_code == 200


def test_a_worse_package_is_refused_once_until_another_one_comes(serve: Callable[..., Serving], tmp_path: Path) -> None:
    write(tmp_path / "model", "1", GOOD)
    serving = serve("model", "--poll", "200ms", "--judge-requests", 20, "--keep", "keep")
    serving.wait(lambda: serving.version() == "1")
    with Load(serving.port) as load:
        write(tmp_path / "model", "2", "raises")
        serving.wait(lambda: serving.metric(r'updates_total\{outcome="refused"\} 1.0'))
        assert serving.said("20 of 20 requests that the old package answers fail: PredictionError (20)") == 1
        write(tmp_path / "model", "3", f"1 - {GOOD}")
        serving.wait(lambda: serving.metric(r'updates_total\{outcome="refused"\} 2.0'))
        assert serving.metric(r"refused\{.*0 of 20 requests are answered alike \(0\.0%\).*\} 1.0")
        # Some more looks at the same object, and the same bytes once more.
        write(tmp_path / "model", "3", f"1 - {GOOD}")
        looks = json.loads((tmp_path / "keep/state.json").read_text())["refused"]["source"]
        serving.wait(lambda: json.loads((tmp_path / "keep/state.json").read_text())["refused"]["source"] != looks)
        assert serving.metric(r'updates_total\{outcome="refused"\} 2.0')
        write(tmp_path / "model", "4", "no python")
        serving.wait(lambda: serving.metric(r'updates_total\{outcome="refused"\} 3.0'))
        assert serving.metric(r"refused\{.*LoadFailed.*\} 1.0")
        write(tmp_path / "model", "5", GOOD)
        serving.wait(lambda: "5" in load.answered)
    assert load.failed == []
    assert set(load.answered) == {"1", "5"}
    serving.wait(lambda: not serving.metric(r"refused\{.*"))


def test_a_start_without_network_serves_the_package_that_was_kept(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    """The network is that of a namespace with a loopback of its own, on which no storage listens."""
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("a network namespace needs root, unshare and nsenter")
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    write(tmp_path / "model", "1", GOOD)
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "model", arcname=".")

    class Storage(http_servers.Handler):
        def do_GET(self) -> None:
            self.answer(archive.read_bytes(), etag='"1"')

        do_HEAD = do_GET

    with http_servers.served(Storage) as host:
        uri = f"http://{host}/model.tar.gz"
        serving = serve(uri, "--poll", "200ms", "--keep", "keep")
        serving.wait(lambda: serving.version() == "1")
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(30) == 0
        inside = ("unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
        serving = serve(uri, "--poll", "200ms", "--keep", "keep", before=inside)
        ask = (
            f"import httpx; url = 'http://127.0.0.1:{serving.port}'; client = httpx.Client(trust_env=False);"
            f"print(client.post(url + '/predict', json={{'instances': [{ROW}]}}).text);"
            "print(client.get(url + '/metrics').text)"
        )

        def answer() -> str:
            command = ["nsenter", "-t", str(serving.process.pid), "-n", sys.executable, "-c", ask]
            return subprocess.run(command, capture_output=True, text=True).stdout

        serving.wait(lambda: "modeldeploy_edge_offline 1.0" in answer())
        assert '"model_version":"1"' in answer()
        assert serving.said("serving the package that was kept") == 1
        assert serving.said("the package on disk goes on") == 1
    assert json.loads((tmp_path / "keep/state.json").read_text())["kept"]["number"] == 1


def test_no_server_outlives_a_killed_parent_and_a_killed_server_comes_back(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    write(tmp_path / "model", "1", GOOD)
    serving = serve("model", "--keep", "keep")
    serving.wait(lambda: serving.version() == "1")
    (child,) = serving.children()
    os.kill(child, signal.SIGKILL)
    serving.wait(lambda: serving.version() == "1" and serving.children() - {child})
    children = serving.children()
    serving.process.kill()
    serving.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), seconds=20)
    again = serve("model", "--keep", "keep")
    again.wait(lambda: again.version() == "1")


def test_what_cannot_be_served_ends_with_the_reason(serve: Callable[..., Serving], tmp_path: Path) -> None:
    write(tmp_path / "model", "1", "no python")
    serving = serve("model")
    assert serving.process.wait(30) == 65
    assert re.search(r"^error: LoadFailed: .*", serving.log.read_text(), re.MULTILINE)
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem, kind = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pub").write_bytes(public.public_bytes(pem, kind))
    serving = serve("model", "--sign-key", "key.pub")
    assert serving.process.wait(30) == 65
    assert "error: SignatureMissing: the package has no model.sig" in serving.log.read_text()
    serving = serve("nowhere")
    assert serving.process.wait(30) == 3
    assert "nowhere is no file or folder here" in serving.log.read_text()
