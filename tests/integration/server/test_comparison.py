"""What a server answered last is told on a port of its own, to who has a key, by what was sent."""

from __future__ import annotations

from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import httpx
from free_ports import free_port

MODEL = """
def load_model(path): return 1
def predict(model, inputs): return {answer}
"""


def asked(port: int, key: str = "", **question: Any) -> httpx.Response:
    headers = {"x-api-key": key} if key else {}
    url = f"http://127.0.0.1:{port}/shadow/predictions"
    return httpx.post(url, json={"every": 1, "seconds": 30, **question}, headers=headers, trust_env=False)


def package(folder: Path, answer: str) -> str:
    folder.mkdir()
    (folder / "model.py").write_text(MODEL.format(answer=answer))
    return folder.as_uri()


def test_what_was_answered_is_told_once_and_only_to_who_has_a_key(serve, tmp_path):
    port, keys = free_port(), tmp_path / "keys"
    keys.mkdir()
    (keys / "ours").write_text("s3cret")
    uri = package(tmp_path / "package", "inputs[:, 0] * 2")
    server = serve(uri, trusted=True, shadow_port=port, auth_dir=keys).wait_ready()
    server.client.headers["x-api-key"] = "s3cret"
    bodies = [b'{"instances": [[%d.5]]}' % number for number in range(4)]

    server.client.post("/predict", content=bodies[0]).raise_for_status()
    first = asked(port, "s3cret").json()
    assert first["predictions"] == [], "nothing is kept before somebody asks"
    for body in bodies[1:]:
        server.client.post("/predict", content=body).raise_for_status()
    told = asked(port, "s3cret", after=first["cursor"]).json()
    assert told["predictions"] == [
        {"request": blake2b(body, digest_size=6).hexdigest(), "size": 1, "numbers": [number * 2 + 1.0]}
        for number, body in enumerate(bodies)
        if number
    ]
    assert asked(port, "s3cret", after=told["cursor"]).json()["predictions"] == []

    assert asked(port).status_code == 401
    assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 404
    assert server.client.post("/shadow/predictions", json={}).status_code == 404, "the Service's port has no way there"
    server.process.terminate()
    assert server.wait_exit() == 0


def test_one_worker_tells_what_all_of_them_answered(run_server, tmp_path):
    port, uri = free_port(), package(tmp_path / "package", "['up' if x > 0 else 'down' for x in inputs[:, 0]]")
    with run_server(tmp_path, uri, trusted=True, shadow_port=port, workers=2) as server:
        server.wait_ready()
        cursor = asked(port).json()["cursor"]
        assert len(cursor) == 2

        def both_have_kept() -> bool:
            # A new connection each time: any worker may take it.
            body = {"instances": [[1.0], [-1.0]]}
            httpx.post(f"{server.url}/predict", json=body, trust_env=False).raise_for_status()
            return all(asked(port, after=cursor).json()["cursor"])

        server.wait_until(both_have_kept)
        found = asked(port, after=cursor).json()["predictions"]
    assert {kept["request"] for kept in found} == {found[0]["request"]}
    up, down = found[0]["labels"]
    assert up != down
    assert found[0]["size"] == 2


def test_the_operators_token_is_all_that_opens_the_port(serve, tmp_path):
    port, keys, token = free_port(), tmp_path / "keys", "0123abcd"
    keys.mkdir()
    (keys / "ours").write_text("s3cret")
    uri = package(tmp_path / "package", "inputs[:, 0] * 2")
    digest = sha256(token.encode()).hexdigest()
    server = serve(uri, trusted=True, shadow_port=port, auth_dir=keys, MODELDEPLOY_SHADOW_TOKEN_SHA256=digest)
    server.wait_ready()
    server.client.headers["x-api-key"] = "s3cret"
    for key in ("", "s3cret", digest):
        refused = asked(port, key)
        assert refused.status_code == 401
        assert "for the operator" in refused.text
    server.client.post("/predict", json={"instances": [[0.5]]}).raise_for_status()
    assert asked(port, token, after=[0]).json()["predictions"] == [], "who is refused has nothing kept"
    first = asked(port, token).json()
    server.client.post("/predict", json={"instances": [[1.5]]}).raise_for_status()
    assert len(asked(port, token, after=first["cursor"]).json()["predictions"]) == 1
    assert server.client.post("/predict", headers={"x-api-key": token}, json={"instances": [[1.5]]}).status_code == 401
