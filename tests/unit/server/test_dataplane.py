"""The data plane answers whoever asks, counts each call once, and lets no unknown error out."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from model_server.auth import AllowAll, ApiKeyAuth
from model_server.batching import Batcher, BatchLimits
from model_server.dataplane import LARGE_BYTES, DataPlane
from model_server.domain.features import Metadata
from model_server.domain.model import Identity, InferenceRequest, LoadedModel
from model_server.errors import InvalidInput, ModelNotReady, PredictionError, Unauthorized, UnknownModel
from model_server.inputs.untyped import Untyped
from model_server.lifecycle import Lifecycle, ServingModel
from model_server.monitoring.monitor import Monitor
from model_server.open_request import Disconnected
from model_server.protocols.payload import Payload
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from model_server.tracing import PropagateOnlyTracer


class InPlace:
    """Adds one to its own rows."""

    signature = None
    probability_output = ""
    classes = ()
    runs_inline = True

    def predict(self, inputs, *, probabilities):
        (rows,) = inputs.values()
        rows += 1
        return {"predict": rows[:, 0]}


class Codec:
    """Reads rows of two numbers; notes which thread decoded."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.thread = ""

    def decode(self, payload, loaded, *, max_rows):
        self.thread = threading.current_thread().name
        rows = np.frombuffer(payload.body, np.float64).reshape(-1, 2)
        return InferenceRequest(inputs={"x": rows})

    def encode(self, outputs, request, loaded):
        if self.fails is not None:
            raise self.fails
        return outputs["predict"].tolist(), request.inputs["x"].tolist()


@pytest.fixture
async def world(tmp_path):
    telemetry, lifecycle = Telemetry(), Lifecycle()
    (tmp_path / "a").write_text("s3cret")
    planes = []

    def plane(*, keys=False, loaded=True):
        authenticator = ApiKeyAuth(tmp_path) if keys else AllowAll()
        made = DataPlane(lifecycle, telemetry, PropagateOnlyTracer(), authenticator, name="m", max_rows=10**6)
        if loaded:
            identity = Identity(model="m", version="1", revision="r")
            model = LoadedModel(identity=identity, metadata=Metadata(), adapter=Untyped(), model=InPlace(), outputs=())
            limits = BatchLimits(max_rows=32, max_delay_seconds=0, max_queue=9, timeout_seconds=9)
            monitor = Monitor(model, Settings(storage_uri="file:///m"), telemetry)
            lifecycle.serve(ServingModel(model, Batcher(model.model, limits, telemetry), monitor))
        planes.append(made)
        return made

    yield SimpleNamespace(plane=plane, codes=lambda: codes(telemetry))
    for made in planes:
        made.close()
    lifecycle.close()


def codes(telemetry):
    """How many calls were counted, by code."""
    found = (sample for family in telemetry.registry.collect() for sample in family.samples)
    return {s.labels["code"]: s.value for s in found if s.name == "modeldeploy_requests_total" and s.value}


async def call(plane, codec, rows=((1.0, 2.0),), target=None, headers=None):
    async def read():
        return Payload(np.asarray(rows).tobytes(), {})

    return await plane.call(
        codec, read, headers=headers or {}, identifier=b"1", operation="test", path="/test",
        started=time.perf_counter(), target=target,
    )  # fmt: skip


async def test_a_call_is_answered_and_counted_once(world):
    assert (await call(world.plane(), Codec()))[0] == [2.0]
    assert world.codes() == {"200": 1}


async def test_a_model_may_compute_in_place_and_the_request_keeps_its_rows(world):
    predictions, rows = await call(world.plane(), Codec())
    assert predictions == [2.0]
    assert rows == [[1.0, 2.0]]


async def test_a_large_body_is_decoded_off_the_event_loop_and_a_small_one_on_it(world):
    plane, codec = world.plane(), Codec()
    await call(plane, codec)
    assert codec.thread == threading.current_thread().name
    answer, _ = await call(plane, codec, rows=np.ones((LARGE_BYTES // 16 + 1, 2)))
    assert codec.thread.startswith("decode")
    assert len(answer) == LARGE_BYTES // 16 + 1


@pytest.mark.parametrize(
    ("fails", "raised", "code"),
    [
        pytest.param(RuntimeError("secret"), PredictionError, "500", id="an unknown error becomes a failed prediction"),
        pytest.param(InvalidInput.at("x", "is wrong"), InvalidInput, "422", id="a refusal keeps its own code"),
        pytest.param(Disconnected(), Disconnected, "499", id="a client that went away is no error of the server"),
    ],
)
async def test_what_goes_wrong_is_counted_by_the_table_of_codes(world, fails, raised, code, caplog):
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(raised) as caught:
        await call(world.plane(), Codec(fails))
    assert "secret" not in str(caught.value)
    assert world.codes() == {code: 1}


async def test_another_model_and_another_version_are_unknown(world):
    plane = world.plane()
    for target in (("other", ""), ("m", "2")):
        with pytest.raises(UnknownModel):
            await call(plane, Codec(), target=target)
    assert (await call(plane, Codec(), target=("m", "1")))[0] == [2.0]
    assert world.codes() == {"404": 2, "200": 1}


async def test_without_a_key_nothing_is_read(world):
    async def read():
        raise AssertionError("the body was read")

    plane = world.plane(keys=True)
    with pytest.raises(Unauthorized):
        await plane.call(
            Codec(), read, headers={}, identifier=b"1", operation="test", path="/", started=time.perf_counter()
        )
    assert (await call(plane, Codec(), headers={b"x-api-key": b"s3cret"}))[0] == [2.0]


async def test_before_the_model_is_there_the_call_says_how_far_it_is(world):
    with pytest.raises(ModelNotReady, match="downloading"):
        await call(world.plane(loaded=False), Codec())
    assert world.codes() == {"503": 1}


async def test_a_call_that_is_cancelled_is_counted_and_no_longer_in_flight(world):
    plane = world.plane()

    async def never():
        await asyncio.Event().wait()

    task = asyncio.create_task(
        plane.call(Codec(), never, headers={}, identifier=b"1", operation="test", path="/", started=time.perf_counter())
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.codes() == {"499": 1}
