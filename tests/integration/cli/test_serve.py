"""`modeldeploy serve`, with real processes: switches, refusals, a start without network, and how it ends."""

from __future__ import annotations

import hashlib
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

from modeldeploy.package.signing import sign_with_key

ROOT = Path(__file__).resolve().parents[3]
ROW = {"a": 1.0, "b": 2.0}
GOOD = "(inputs[:, 0] > 0).astype(int)"
METADATA = """
version: "{version}"
input_features: [{{name: a, example: 1}}, {{name: b, example: 1}}]
output_features: [{{name: positive, dtype: int64, categories: [0, 1]}}]
"""


def new_key(folder: Path) -> Path:
    """A private key, with the public one beside it in `key.pub`."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = folder / "key"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    private.with_suffix(".pub").write_bytes(public)
    return private


def write(folder: Path, version: str, says: str, key: Path | None = None) -> None:
    """A package that starts quickly, signed if there is a key; put there at once, as an upload does."""
    fresh = folder.with_name("fresh")
    fresh.mkdir()
    code = "def load_model(path): return 1\ndef predict(model, inputs):\n    {}\n    return {}\n"
    check = "assert not (inputs[:, 1] == 2).any(), 'never seen'" if says == "raises" else ""
    (fresh / "model.py").write_text(code.format(check or "pass", GOOD if says == "raises" else says))
    (fresh / "model.yaml").write_text(METADATA.format(version=version))
    if key is not None:
        sign_with_key(fresh, key, os.environ)
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
    key = new_key(tmp_path)
    write(tmp_path / "model", "1", GOOD, key)
    serving = serve("model", "--poll", "200ms", "--judge-requests", 50, "--sign-key", "key.pub")
    serving.wait(lambda: serving.version() == "1")
    first = serving.children()
    with Load(serving.port) as load:
        write(tmp_path / "model", "2", f"{GOOD} * 1", key)
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
    assert not serving.said("/shadow/predictions"), "the log is for its reader, and has none of the supervisor's looks"


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


class Storage:
    """Files over HTTP, with an ETag for each."""

    def __init__(self) -> None:
        self.content = b""

    def put(self, folder: Path, version: str) -> None:
        """Upload a version of the package, as an archive."""
        write(folder, version, GOOD)
        with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as tar:
            tar.add(folder, arcname=".")
        self.content = folder.with_suffix(".tar.gz").read_bytes()

    def handler(self) -> type[http_servers.Handler]:
        class Handler(http_servers.Handler):
            def do_GET(handler) -> None:  # noqa: N805 - two objects
                handler.answer(self.content, etag=f'"{hashlib.sha256(self.content).hexdigest()}"')

            do_HEAD = do_GET

        return Handler


def test_it_comes_back_after_every_kind_of_end_without_network_too(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    storage = Storage()
    storage.put(tmp_path / "model", "1")
    with http_servers.served(storage.handler()) as host:
        given = (f"http://{host}/model.tar.gz", "--poll", "200ms", "--keep", "keep", "--judge-time", "1s")
        serving = serve(*given)
        # A package whose server is killed before it is ready cannot be served.
        serving.wait(lambda: serving.said('"serving"') and serving.version() == "1")

        (child,) = serving.children()
        os.kill(child, signal.SIGKILL)
        serving.wait(lambda: serving.version() == "1" and serving.children() - {child})

        children = serving.children()
        serving.process.kill()
        serving.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "its servers end", seconds=20)

        storage.put(tmp_path / "model", "2")
        if can_make_networks():
            without_network(serve(*given, before=INSIDE))
        serving = serve(*given)
        serving.wait(lambda: serving.version() == "2")
        assert serving.said("serving the package that was kept") == 1
        serving.wait(lambda: len(list((tmp_path / "keep/packages").iterdir())) == 1)


#: A network namespace whose only interface is a loopback of its own, on which no storage listens.
INSIDE = ("unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")


def can_make_networks() -> bool:
    """Whether this machine lets the test make a network namespace: root, mostly."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "ip")))
    return tools and not subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode


def without_network(serving: Serving) -> None:
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
    assert serving.said("the package on disk goes on") == 1
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0


def test_what_cannot_be_served_ends_with_the_reason(serve: Callable[..., Serving], tmp_path: Path) -> None:
    write(tmp_path / "model", "1", "no python")
    serving = serve("model")
    assert serving.process.wait(30) == 65
    assert re.search(r"^error: LoadFailed: .*", serving.log.read_text(), re.MULTILINE)
    new_key(tmp_path)
    serving = serve("model", "--sign-key", "key.pub")
    assert serving.process.wait(30) == 65
    assert "error: SignatureMissing: the package has no model.sig" in serving.log.read_text()
    serving = serve("nowhere")
    assert serving.process.wait(30) == 3
    assert "nowhere is no file or folder here" in serving.log.read_text()
