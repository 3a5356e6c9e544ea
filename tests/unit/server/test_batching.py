"""Concurrent requests are gathered, and none of them harms another."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from waiting import eventually

from model_server.batching import Batcher, BatchLimits
from model_server.domain.model import Signature
from model_server.errors import DeadlineExceeded, InvalidInput, Overloaded, PredictionError


class Doubling:
    """A real little model: doubles, refuses negative numbers, and can be held up."""

    signature = Signature()
    probability_output = ""
    classes = ()
    runs_inline = False

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.released = threading.Event()
        self.released.set()
        self.called = threading.Event()

    def predict(self, inputs, *, probabilities):
        self.released.wait(10)
        x = inputs["x"]
        self.calls.append(len(x))
        self.called.set()
        if (x < 0).any():
            raise ValueError("negative")
        if (x > 1000).any():
            raise KeyError("hidden")
        if (x == 666).any():
            raise SystemExit(3)
        return {"y": x[:1] if (x == 13).any() else x * 2}


class Observed:
    def __init__(self) -> None:
        self.batches: list[int] = []

    def batch(self, *, rows, seconds, queued):
        self.batches.append(rows)
        assert seconds >= 0
        assert queued >= 0


@asynccontextmanager
async def a_batcher(model, **limits) -> AsyncIterator[tuple[Batcher, Observed]]:
    observed = Observed()
    given = {"max_rows": 8, "max_delay_seconds": 0.001, "max_queue": 100, "timeout_seconds": 10} | limits
    batcher = Batcher(model, BatchLimits(**given), observed)
    yield batcher, observed
    batcher.close()


def one(value, rows=1):
    return {"x": np.full(rows, value)}


async def test_requests_that_come_together_are_one_call():
    model = Doubling()
    async with a_batcher(model) as (batcher, observed):
        answers = await asyncio.gather(*(batcher.submit(one(value)) for value in range(5)))
    assert [answer["y"].tolist() for answer in answers] == [[0], [2], [4], [6], [8]]
    assert observed.batches == [5]


async def test_requests_that_come_during_a_call_make_up_the_next():
    model = Doubling()
    model.released.clear()
    async with a_batcher(model) as (batcher, observed):
        first = batcher.submit(one(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        rest = [batcher.submit(one(value)) for value in range(2, 6)]
        model.released.set()
        await asyncio.gather(first, *rest)
    assert observed.batches == [1, 4]


async def test_a_batch_has_at_most_so_many_rows_but_a_large_request_goes_whole():
    model = Doubling()
    async with a_batcher(model) as (batcher, _):
        await asyncio.gather(*(batcher.submit(one(1, rows)) for rows in (5, 5, 3, 20)))
    assert model.calls == [8, 5, 20]


async def test_inputs_of_different_shapes_are_not_mixed():
    model = Doubling()
    async with a_batcher(model) as (batcher, _):
        wide = {"x": np.ones((1, 3))}
        answers = await asyncio.gather(batcher.submit(one(1)), batcher.submit(wide), batcher.submit(one(2)))
    assert [answer["y"].tolist() for answer in answers] == [[2], [[2, 2, 2]], [4]]
    assert model.calls == [2, 1]


async def test_a_bad_row_does_not_poison_the_others():
    async with a_batcher(Doubling()) as (batcher, _):
        answers = await asyncio.gather(
            *(batcher.submit(one(value)) for value in (1, -1, 5000, 13, 2, 666)), return_exceptions=True
        )
    assert answers[0]["y"].tolist() == [2]
    assert answers[4]["y"].tolist() == [4]
    assert isinstance(answers[1], InvalidInput)
    assert "negative" in str(answers[1])
    assert isinstance(answers[2], PredictionError)
    assert "hidden" not in str(answers[2])
    assert isinstance(answers[5], PredictionError), "a model that ends the process does not end the server"


async def test_an_answer_of_the_wrong_length_is_nobodys_prediction():
    async with a_batcher(Doubling()) as (batcher, _):
        with pytest.raises(PredictionError, match="answered 1 for 2 rows"):
            await batcher.submit({"x": np.array([13, 13])})


async def test_a_full_queue_refuses():
    model = Doubling()
    model.released.clear()
    async with a_batcher(model, max_queue=2) as (batcher, _):
        running = batcher.submit(one(0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = [batcher.submit(one(value)) for value in (1, 2)]
        with pytest.raises(Overloaded, match="2 requests are waiting"):
            batcher.submit(one(3))
        model.released.set()
        await asyncio.gather(running, *waiting)


async def test_a_deadline_is_kept_and_the_model_is_spared():
    model = Doubling()
    model.released.clear()
    async with a_batcher(model, timeout_seconds=0.05) as (batcher, _):

        async def hangs():
            return batcher.hung_seconds

        async def goes_on():
            return not batcher.hung_seconds

        running, late = batcher.submit(one(1)), None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = batcher.submit(one(2))
        with pytest.raises(DeadlineExceeded):
            await running
        with pytest.raises(DeadlineExceeded):
            await late
        await eventually(hangs, "the call counts as long")
        model.released.set()
        await asyncio.to_thread(model.called.wait, 10)
        await eventually(goes_on, "no call hangs")
    assert model.calls == [1]


async def test_short_calls_of_a_pure_model_stay_on_the_event_loop():
    threads: list[str] = []

    class Quick(Doubling):
        runs_inline = True

        def predict(self, inputs, *, probabilities):
            threads.append(threading.current_thread().name)
            return {"y": inputs["x"]}

    async with a_batcher(Quick(), inline_seconds=0.5) as (batcher, _):
        for value in range(20):
            await batcher.submit(one(value))
    assert threads[0].startswith("predict"), "an unknown model is not let onto the event loop"
    assert threads[-1] == threading.main_thread().name


async def test_a_call_for_idle_moments_waits_for_requests_and_gives_what_it_returns():
    model, order = Doubling(), []
    model.released.clear()
    async with a_batcher(model) as (batcher, _):
        requests = [batcher.submit(one(1.0), probabilities=False)]
        await asyncio.sleep(0)
        idle = batcher.when_idle(lambda: order.append(list(model.calls)) or "done")
        requests.append(batcher.submit(one(2.0, rows=2), probabilities=False))
        model.released.set()
        assert await idle == "done"
        assert all(request.done() for request in requests)
    assert order == [[1, 2]]


async def test_a_call_for_idle_moments_that_nobody_waits_for_is_left_out():
    model, called = Doubling(), []
    async with a_batcher(model) as (batcher, _):
        given_up, wanted = (batcher.when_idle(lambda name=name: called.append(name)) for name in ("a", "b"))
        given_up.cancel()
        await wanted
        assert (await batcher.submit(one(1.0), probabilities=False))["y"] == 2
    assert called == ["b"]


async def test_a_call_for_idle_moments_that_fails_harms_nobody():
    async with a_batcher(Doubling()) as (batcher, _):
        with pytest.raises(ZeroDivisionError):
            await batcher.when_idle(lambda: 1 / 0)
        with pytest.raises(RuntimeError, match=r"sys\.exit"):
            await batcher.when_idle(lambda: sys.exit(3))
        assert (await batcher.submit(one(1.0), probabilities=False))["y"] == 2


async def test_at_the_end_calls_for_idle_moments_are_cancelled():
    async with a_batcher(Doubling()) as (batcher, _):
        waiting = batcher.when_idle(lambda: 1)
    assert waiting.cancelled()
