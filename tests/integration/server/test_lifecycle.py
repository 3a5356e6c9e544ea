"""From the first byte to the last request: what a server answers while it starts and while it ends."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

WAITS = """
import pathlib, time

def load_model(path):
    while not (pathlib.Path(path) / "go").exists():
        time.sleep(0.01)

def predict(model, inputs):
    (pathlib.Path({folder!r}) / "called").touch()
    while not (pathlib.Path({folder!r}) / "answer").exists():
        time.sleep(0.01)
    return [7] * len(inputs)
"""


@pytest.fixture
def slow(tmp_path):
    """A package whose load and predict wait for files."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "model.py").write_text(WAITS.format(folder=str(tmp_path)))
    return folder


def test_probes_answer_while_the_model_is_loading(serve, slow):
    server = serve(f"file://{slow}", trusted=True)
    server.wait_until(lambda: server.phase() == "loading")
    assert server.client.get("/livez").status_code == 200
    assert server.client.get("/readyz").status_code == 503
    refused = server.client.post("/predict", json={"instances": [[1]]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert refused.json()["reason"] == "ModelNotReady"
    assert server.client.get("/v1/models/model").json() == {"name": "model", "ready": False}
    (slow / "go").touch()
    server.wait_ready()
    assert server.client.get("/readyz").json()["phase"] == "ready"


def test_a_server_that_is_still_loading_ends_at_once(serve, slow):
    server = serve(f"file://{slow}", trusted=True)
    server.wait_until(lambda: server.phase() == "loading")
    assert server.terminate() == 0


def test_a_request_in_flight_is_answered_before_the_end(serve, slow, tmp_path):
    (slow / "go").touch()
    server = serve(f"file://{slow}", trusted=True, drain_seconds=0.3).wait_ready()
    with ThreadPoolExecutor(1) as pool:
        body = {"instances": [[1], [2]]}
        answer = pool.submit(httpx.post, f"{server.url}/predict", json=body, timeout=30, trust_env=False)
        server.wait_until((tmp_path / "called").exists)
        server.process.terminate()
        server.wait_until(lambda: server.phase() in ("draining", "unreachable"))
        (tmp_path / "answer").touch()
        response = answer.result()
    assert response.json()["predictions"] == [7, 7]
    assert response.headers["connection"] == "close"
    assert server.wait_exit() == 0


HANGING = "import time\ndef load_model(path): return 1\ndef predict(model, inputs): time.sleep(1000)\n"


def test_a_model_that_does_not_return_ends_the_server_with_a_reason(serve, tmp_path):
    (tmp_path / "model.py").write_text(HANGING)
    server = serve(f"file://{tmp_path}/model.py", trusted=True, request_timeout_seconds=0.1).wait_ready()
    assert server.client.post("/predict", json={"instances": [[1]]}).status_code == 504
    assert server.wait_exit() == 70
    said = server.termination()
    assert (said["reason"], said["permanent"]) == ("ModelHung", False)
    assert said["hint"]


def test_no_request_is_lost_on_connections_that_stay_open(serve, sign):
    server = serve(sign, trusted=True, drain_seconds=0.5).wait_ready()
    body = {"instances": [[1, 2]]}
    statuses: list[int] = []
    asked = threading.Event()

    def client() -> None:
        # One connection, kept until the server says it closes.
        with httpx.Client(base_url=server.url, trust_env=False, timeout=10) as session:
            while True:
                answer = session.post("/predict", json=body)
                statuses.append(answer.status_code)
                asked.set()
                if answer.headers.get("connection") == "close":
                    return

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        assert asked.wait(10)
        code = server.terminate()
        for future in clients:
            future.result()
    assert code == 0
    assert set(statuses) == {200}


def test_a_port_that_is_taken_is_a_setting_that_is_wrong(serve, sign):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = serve(sign, port=taken.getsockname()[1], trusted=True)
        assert server.wait_exit() == 78
    assert "cannot listen on 127.0.0.1" in server.termination()["message"]


def test_every_log_line_is_one_json_object(serve, sign):
    server = serve(sign, trusted=True, name="sign", revision="5c1a").wait_ready()
    server.client.post("/predict", content=b"{", headers={"x-request-id": "r-1", "content-type": "application/json"})
    server.terminate()
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {line["revision"] for line in lines} == {"5c1a"}
    assert any(line.get("request_id") == "r-1" and line["status"] == 400 for line in lines)
    assert lines[-1]["message"] == "stopped"


def test_the_log_level_changes_at_run_time(serve, sign):
    import signal

    server = serve(sign, trusted=True).wait_ready()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def answered():
        server.client.get("/livez", headers={"traceparent": parent})
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [line for line in lines if line["message"] == "answered" and line.get("traceparent") == parent]

    assert not answered()
    server.process.send_signal(signal.SIGUSR1)
    server.wait_until(lambda: bool(answered()))
    assert (answered()[0]["path"], answered()[0]["status"]) == ("/livez", 200)
    server.process.send_signal(signal.SIGUSR1)
    server.wait_until(lambda: '"log level is now info"' in server.log.read_text())


def counted(server):
    lines = server.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith('modeldeploy_requests_total{code="200"'))


def test_workers_share_the_port_the_metrics_and_the_end(serve, sign):
    server = serve(sign, trusted=True, workers=2, drain_seconds=0.2).wait_ready()
    body = {"instances": [[1, 2]]}
    with ThreadPoolExecutor(8) as pool:
        url = f"{server.url}/predict"
        answers = list(pool.map(lambda _: httpx.post(url, json=body, trust_env=False, timeout=30), range(60)))
    assert {answer.status_code for answer in answers} == {200}
    # Whichever worker is asked, it counts for all.
    assert [counted(server) for _ in range(4)] == [60] * 4
    assert server.terminate() == 0
    assert sum('"stopped"' in line for line in server.log.read_text().splitlines()) == 2


def test_a_worker_that_dies_ends_the_server(serve, sign):
    import os
    import signal

    server = serve(sign, trusted=True, workers=2, drain_seconds=0.2).wait_ready()
    children = [int(pid) for pid in worker_pids(server.process.pid)]
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    assert server.wait_exit() == 128 + signal.SIGKILL


def test_workers_end_when_their_parent_is_killed(serve, sign):
    server = serve(sign, trusted=True, workers=2, drain_seconds=0.2).wait_ready()
    children = worker_pids(server.process.pid)
    server.process.kill()
    server.wait_until(lambda: not any(is_running(pid) for pid in children))
    assert server.log.read_text().count('"stopped"') == 2


def is_running(pid):
    from pathlib import Path

    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def worker_pids(parent):
    from pathlib import Path

    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


def test_a_package_that_fails_fails_with_workers_too(serve, tmp_path):
    server = serve(f"file://{tmp_path}/none", workers=2)
    assert server.wait_exit() == 65
    assert server.termination()["reason"] == "ArtifactNotFound"
