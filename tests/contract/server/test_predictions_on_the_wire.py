"""What the server tells of its recent predictions is what the operator reads, over real HTTP; refusals are told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from free_ports import free_port

from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse
from model_operator.clients.shadow import HttpPredictions, Problem, parse
from model_operator.errors import ApiError, ProviderError
from model_server.auth import ApiKeyAuth
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import DataPlane
from model_server.domain.features import Metadata
from model_server.domain.model import LoadedModel, Signature
from model_server.http.comparison import create_comparison_app
from model_server.inputs.untyped import Untyped
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.monitoring.monitor import Monitor
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer

SECRETS = {"keys": {"a": " s3cret\n", "b": "other"}, "empty": {"a": " "}}


class Echo:
    """Never asked: the monitor is told what it would have said."""

    signature = Signature()
    probability_output = ""
    classes = ()
    runs_inline = True

    def predict(self, inputs, *, probabilities):
        raise NotImplementedError


async def read_secret(namespace: str, name: str) -> Mapping[str, str]:
    if name not in SECRETS:
        raise ApiError(404, "NotFound", "no such Secret")
    return SECRETS[name]


@asynccontextmanager
async def shadow_port(keys: Path) -> AsyncIterator[tuple[str, Monitor]]:
    """The second port of a server whose model is loaded, and what watches its predictions."""
    (keys / "a").write_text("s3cret")
    telemetry, lifecycle = Telemetry(), Lifecycle()
    loaded = LoadedModel(identity=telemetry.identity, metadata=Metadata(), adapter=Untyped(), model=Echo(), outputs=())
    monitor = Monitor(loaded, Settings(storage_uri="file:///m"), telemetry)
    limits = BatchLimits(max_rows=1, max_delay_seconds=0, max_queue=1, timeout_seconds=1)
    lifecycle.serve(ServingModel(loaded, Batcher(loaded.model, limits, telemetry), monitor))
    plane = DataPlane(lifecycle, telemetry, PropagateOnlyTracer(), ApiKeyAuth(keys), name="m", max_rows=1)
    app = create_comparison_app(plane, telemetry, plane.authenticator)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", monitor
        finally:
            server.should_exit = True
            await serving
            plane.close()
            lifecycle.close()


async def test_what_is_kept_is_what_is_read(tmp_path: Path) -> None:
    async with shadow_port(tmp_path) as (url, monitor), HttpPredictions(read_secret) as predictions:
        key = await predictions.api_key("team", "keys")
        began = await predictions.ask(url, ShadowRequest(every=1, seconds=60), key)
        assert began == ShadowResponse(cursor=(0,))
        for body, said in ((b"1", [0.5, np.nan]), (b"2", ["cat"]), (b"3", range(20))):
            monitor.predicted(b"id", {}, {"y": np.array(said)}, body)
        told = await predictions.ask(url, ShadowRequest(every=1, seconds=60, after=began.cursor), key)
    assert told.cursor == (3,)
    numbers, label, many = told.predictions
    assert (numbers.size, numbers.numbers) == (2, (0.5, None))
    assert (label.size, label.numbers, len(label.labels)) == (1, (), 1)
    assert (many.size, many.numbers) == (20, tuple(map(float, range(16))))
    assert len({one.request for one in told.predictions}) == 3


async def test_an_answer_of_many_pieces_is_read_whole(tmp_path: Path) -> None:
    async with shadow_port(tmp_path) as (url, monitor), HttpPredictions(read_secret) as predictions:
        await predictions.ask(url, ShadowRequest(every=1, seconds=60), "s3cret")
        for number in range(1000):
            monitor.predicted(b"id", {}, {"y": np.full(16, number / 7)}, b"%d" % number)
        told = await predictions.ask(url, ShadowRequest(every=1, seconds=60, after=(0,)), "s3cret")
    assert [one.numbers[0] for one in told.predictions] == [number / 7 for number in range(1000)]


async def test_a_refusal_is_reported_by_its_status_and_nothing_that_a_pod_writes(tmp_path: Path) -> None:
    async with shadow_port(tmp_path) as (url, _), HttpPredictions(read_secret) as predictions:
        with pytest.raises(ProviderError, match=r"answered 401$"):
            await predictions.ask(url, ShadowRequest(every=1, seconds=60), "wrong")
        with pytest.raises(ProviderError, match=r"answered 422$"):
            await predictions.ask(url, ShadowRequest(every=0, seconds=60), "s3cret")


async def test_where_nobody_listens_the_server_is_an_older_one() -> None:
    async with HttpPredictions(read_secret) as predictions:
        with pytest.raises(ProviderError, match="older servers have no such port"):
            await predictions.ask(f"http://127.0.0.1:{free_port()}", ShadowRequest(every=1, seconds=60), "")


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        pytest.param("empty", "Secret empty holds no API key", id="a Secret without a key"),
        pytest.param("absent", "Secret absent: it does not exist", id="no Secret"),
    ],
)
async def test_a_secret_without_a_key_is_named(secret: str, why: str) -> None:
    async with HttpPredictions(read_secret) as predictions:
        with pytest.raises(ProviderError, match=why):
            await predictions.api_key("team", secret)


@pytest.mark.parametrize("text", [b"<html>", b"[]", b'{"cursor": [1], "predictions": [{"size": "x"}]}'])
def test_an_answer_of_somebody_else_is_none(text: bytes) -> None:
    said = parse(text)
    assert isinstance(said, Problem)
    assert "not one of a model server" in said.message


def test_an_answer_is_read_as_the_page_says() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "wire.md").read_text()
    shown = page.split('{"cursor"')[1].split("```")[0]
    told = parse(b'{"cursor"' + shown.encode())
    assert isinstance(told, ShadowResponse)
    assert told.predictions[0] == Prediction(request="6f1ed002ab55", size=1, numbers=(0.25,))
    assert told.predictions[1].labels == ("8f434346648f", "2c26b46b68ff")
