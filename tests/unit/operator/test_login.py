"""How the operator finds the API server, and what it says when it finds none."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from model_operator.clients.connection import Connection, NoConnection

SERVER = {"server": "http://127.0.0.1:1"}


def kubeconfig(folder: Path, *, user: Mapping[str, Any] | None = None, **cluster: Any) -> Path:
    file = folder / "config"
    body = {
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "clusters": [{"name": "lab", "cluster": {**SERVER, **cluster}}],
        "users": [{"name": "me", "user": dict(user or {})}],
    }
    file.write_text(yaml.safe_dump(body))
    return file


def plugin(folder: Path, script: str) -> dict[str, Any]:
    file = folder / "plugin"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": str(file), "interactiveMode": "Never"}}


def environment(file: Path) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(file)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(None, "does not exist", id="a kubeconfig that is not there"),
        pytest.param("a: [", "expected the node content", id="one that is not YAML"),
        pytest.param("{}", "current-context", id="one without a context"),
        pytest.param("[]", "cannot be read", id="one that is a list"),
        pytest.param("", "cannot be read", id="an empty one"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(NoConnection, match=problem) as raised:
        await Connection.open(environment(file))
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_a_kubeconfig_says_who_we_are(tmp_path: Path) -> None:
    connection = await Connection.open(environment(kubeconfig(tmp_path, user={"token": "secret", "as": "jane"})))
    try:
        assert await connection.headers() == {"Authorization": "Bearer secret", "Impersonate-User": "jane"}
    finally:
        await connection.close()


async def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    answer = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"fresh"}}'
    user = plugin(tmp_path, f"echo '{answer}'")
    connection = await Connection.open(environment(kubeconfig(tmp_path, user=user)))
    try:
        assert await connection.headers() == {"Authorization": "Bearer fresh"}
    finally:
        await connection.close()


async def test_an_exec_plugin_that_fails_is_named(tmp_path: Path) -> None:
    user = plugin(tmp_path, "exit 1")
    with pytest.raises(NoConnection, match="plugin"):
        await Connection.open(environment(kubeconfig(tmp_path, user=user)))


async def test_the_proxy_and_the_server_name_of_a_kubeconfig_are_used(tmp_path: Path) -> None:
    cluster: dict[str, Any] = {"proxy-url": "http://127.0.0.1:9", "tls-server-name": "api.example.com"}
    file = kubeconfig(tmp_path, user=None, **cluster)
    connection = await Connection.open(environment(file))
    try:
        assert connection.configuration.proxy == "http://127.0.0.1:9"
        assert connection.configuration.tls_server_name == "api.example.com"
    finally:
        await connection.close()


async def test_the_proxy_of_the_environment_is_used_where_the_kubeconfig_has_none(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, server="http://api.example.com")
    proxied = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "10.0.0.0/8"}
    connection = await Connection.open({**environment(file), **proxied})
    try:
        assert connection.configuration.proxy == "http://127.0.0.1:9"
    finally:
        await connection.close()


async def test_a_password_of_netrc_is_not_sent_to_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    received: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        received.append(request.headers.get("Authorization"))
        return web.json_response({})

    async with RawTestServer(answer, host="127.0.0.1") as server:
        connection = await Connection.open(environment(kubeconfig(tmp_path, server=str(server.make_url("")))))
        try:
            await (await connection.request("GET", "/version", headers={})).release()
        finally:
            await connection.close()
    assert received == [None]
