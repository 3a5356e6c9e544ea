"""The secret of an installation is made once, whoever starts at the same time, and read from then on."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
from operator_in_cluster import Api, api_of, control_plane

from model_operator.clients.connection import Connection
from model_operator.clients.kinds import SECRET
from model_operator.clients.kubernetes import KubernetesClient
from model_operator.clients.token_secret import KEY, secret_id, token_secret
from model_operator.telemetry import Telemetry

NAME = "tokens"


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Api, KubernetesClient]]:
    async with control_plane() as plane, api_of(plane) as api:
        monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
        async with KubernetesClient(Connection.open, Telemetry()) as client:
            yield api, client


@pytest.mark.parametrize("is_there", [True, False], ids=["an empty Secret of the chart", "no Secret"])
async def test_replicas_that_start_together_have_the_same(
    cluster: tuple[Api, KubernetesClient], is_there: bool
) -> None:
    api, client = cluster
    if is_there:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}}
        await api.call("POST", SECRET.collection("default"), body)
    found = await asyncio.gather(*(token_secret(client, "default", NAME) for _ in range(4)))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert (await api.get(SECRET, NAME))["data"] == {KEY: base64.b64encode(found[0]).decode()}
    assert await token_secret(client, "default", NAME) == found[0]
    assert secret_id(found[0]) not in found[0].hex()


async def test_what_is_too_short_to_be_one_is_replaced(cluster: tuple[Api, KubernetesClient]) -> None:
    api, client = cluster
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": {KEY: "YQ=="}}
    await api.call("POST", SECRET.collection("default"), body)
    assert len(await token_secret(client, "default", NAME)) == 32
