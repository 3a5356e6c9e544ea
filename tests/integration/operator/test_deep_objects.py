"""An object that is nested as deeply as an API server allows keeps no other from being read."""

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web
from rollout_world import World

from model_operator.clients.connection import Connection
from model_operator.clients.documents import MOST_LEVELS, parsed
from model_operator.clients.kinds import RESOURCE
from model_operator.clients.kubernetes import KubernetesClient
from model_operator.telemetry import Telemetry

DEEP = b'{"a":[' * 4_000 + b'"}\\"]"' + b"]}" * 4_000


def resource(name: str, more: bytes = b"0") -> bytes:
    """Return a ModelDeployment as an API server writes it."""
    metadata = orjson.dumps({"name": name, "namespace": "team", "uid": name, "resourceVersion": "7"})
    return b'{"kind":"ModelDeployment","metadata":%b,"spec":{"more":%b,"last":"}"}}' % (metadata, more)


async def serve(request: web.Request) -> web.StreamResponse:
    objects = [resource("a"), resource("hostile", DEEP), resource("z")]
    if "watch" not in request.query:
        body = b'{"items":[%b],"metadata":{"resourceVersion":"9"}}' % b",".join(objects)
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse()
    await response.prepare(request)
    for one in objects:
        await response.write(b'{"type":"ADDED","object":%b}\n' % one)
    return response


async def test_lists_and_watches_go_on(tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_get("/{any:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "current-context": "c",
            }
        )
    )
    async with KubernetesClient(lambda: Connection.open({"KUBECONFIG": str(config)}), Telemetry()) as client:
        listed = [one["metadata"]["name"] async for items, _ in client.list(RESOURCE) for one in items]
        changed = [one async for _, one in client.watch(RESOURCE, "9")]
    await runner.cleanup()
    assert listed == [one["metadata"]["name"] for one in changed] == ["a", "hostile", "z"]
    assert {one["spec"]["last"] for one in changed} == {"}"}


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":' * 3_000, b"]"], ids=["nothing", "half", "deep half", "an end"])
async def test_what_is_no_json_is_none(text: bytes) -> None:
    with pytest.raises(ValueError, match="line 1"):
        await parsed(text)


async def test_an_overlay_that_was_cut_is_told_and_carried_out_nowhere() -> None:
    world = World()
    spec: dict[str, Any] = await parsed(b'{"affinity":%b}' % DEEP)
    model = {"storageUri": "s3://models/shop/1"}
    key = world.cluster.create("shop", {"model": model, "server": {"podTemplate": {"spec": spec}}})
    await world.operate(key)
    message = world.status(key)["message"]
    assert "nested more than 100 levels deep" in message
    assert len(message) < MOST_LEVELS * 30
    assert world.cluster.of_kind("Deployment") == []
