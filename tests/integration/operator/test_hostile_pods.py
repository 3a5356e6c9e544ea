"""A pod may answer anything on the ports that the operator asks: it gets little memory, and leads to nothing else."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
from aiohttp import web

from model_operator.api.shadow import ShadowRequest
from model_operator.clients.metrics_page import Sample
from model_operator.clients.pod_metrics import HttpPodMetrics
from model_operator.clients.replay import HttpReplays
from model_operator.clients.shadow import HttpPredictions
from model_operator.errors import ProviderError

MIB = 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Bodies that are no answers of a model server, each as pieces that are repeated: the beginning, the piece, how often.
PREDICTIONS = {
    "many predictions": (b'{"cursor":[1],"predictions":[', b'{"request":"","size":1},', MIB),
    "many numbers": (b'{"cursor":[1],"predictions":[{"request":"","size":1,"numbers":[', b"0,", 16 * MIB),
    "deep": (b'{"cursor":[1],"predictions":', b"[", 32 * MIB),
    "deep where nothing is expected": (b'{"cursor":[1],"predictions":[],"more":', b"[", MIB),
    "a long name": (b'{"cursor":[1],"predictions":[{"request":"', b"a", 32 * MIB),
    "no JSON": (b"", b"<html>", 1),
}
#: Answers of the right shape whose values no model server has.
VALUES = {
    "list items of another kind": b'{"cursor":[0],"predictions":[1,null,[]]}',
    "a text as a number": b'{"cursor":[0],"predictions":[{"request":"a","size":1,"numbers":["x"]}]}',
    "a size below zero": b'{"cursor":[0],"predictions":[{"request":"a","size":-1}]}',
    "a huge number": b'{"cursor":[0],"predictions":[{"request":"a","size":1' + b"0" * 5000 + b"}]}",
    "too many numbers": b'{"cursor":[0],"predictions":[{"request":"a","size":99,"numbers":[' + b"0," * 99 + b"0]}]}",
    "infinity": b'{"cursor":[0],"predictions":[{"request":"a","size":1,"numbers":[Infinity]}]}',
    "another document": b"[]",
    "no UTF-8": b'{"cursor":[0],"predictions":[{"request":"\xed\xa0\x80","size":1}]}',
}


async def no_secret(namespace: str, name: str) -> Mapping[str, str]:
    raise AssertionError("no Secret is read for a pod without a key")


@asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[str]:
    """The URL of a pod that answers every request by `answer`."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def repeated(
    begin: bytes, piece: bytes = b"", times: int = 0, *, encoding: str = "identity", status: int = 200
) -> Handler:
    """An answer that begins with `begin` and goes on with as many pieces, a mebibyte at once."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Encoding": encoding})
        await response.prepare(request)
        at_once = max(1, min(times, MIB // max(1, len(piece))))
        # Who asked may have heard enough.
        with suppress(ConnectionError):
            await response.write(begin)
            for _ in range(times // at_once):
                await response.write(piece * at_once)
        return response

    return answer


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Fail when what Python holds in between grows by `limit` bytes; the pod's own pieces are in it."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@contextmanager
def memory_left(limit: int) -> Iterator[None]:
    """Fail when Python holds `limit` bytes more in the end; what the pod of the test has yet to send is in it."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[0] < limit
    finally:
        tracemalloc.stop()


async def asked(answer: Handler) -> None:
    """Ask a pod for its predictions."""
    async with serving(answer) as url, HttpPredictions(no_secret) as predictions:
        await predictions.ask(url, ShadowRequest(every=1, seconds=60), "")


async def told(answer: Handler) -> Sample | None:
    """Ask a pod for its metrics."""
    async with serving(answer) as url, HttpPodMetrics() as metrics:
        return await metrics.read(url)


@pytest.mark.parametrize("body", PREDICTIONS.values(), ids=PREDICTIONS)
async def test_predictions_that_no_server_sends_cost_little(body: tuple[bytes, bytes, int]) -> None:
    with memory_below(32 * MIB), pytest.raises(ProviderError, match=r"2 MiB of predictions|not one of a model server"):
        await asked(repeated(*body))


@pytest.mark.parametrize("body", VALUES.values(), ids=VALUES)
async def test_values_that_no_server_has_are_refused_where_they_enter(body: bytes) -> None:
    with pytest.raises(ProviderError, match="not one of a model server"):
        await asked(repeated(body))


@pytest.mark.parametrize("text", [b"\xed\xa0\x80", b"\xff", b"\\ud800"], ids=["a surrogate", "no UTF-8", "half a pair"])
async def test_text_that_is_none_is_no_answer_to_any_question(text: bytes) -> None:
    state = (
        b'{"phase":"loading","message":"' + text + b'","models":{},"failures":[{"name":"' + text + b'","reason":""}]}'
    )
    async with serving(repeated(state)) as url, HttpPodMetrics() as metrics, HttpReplays(b"") as replays:
        assert await metrics.start(url) is None
        assert await metrics.pool(url) is None
        with pytest.raises(ProviderError, match="not one of a model server"):
            await replays.requests(url, size=1, seconds=1, answer=1, token="")
    state = b'{"error":"' + text + b'"}'
    async with serving(repeated(state, status=400)) as url, HttpReplays(b"") as replays:
        with pytest.raises(ProviderError, match=r"answered 400$"):
            await replays.requests(url, size=1, seconds=1, answer=1, token="")


async def test_an_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b'{"cursor":[0],"predictions":[' + b" " * (64 * MIB) + b"]}")
    assert len(bomb) < MIB
    with memory_below(32 * MIB), pytest.raises(ProviderError):
        await asked(repeated(bomb, encoding="gzip"))


async def test_a_pod_leads_nowhere_else() -> None:
    visitors: list[str] = []

    async def other(request: web.Request) -> web.Response:
        visitors.append(request.path)
        return web.Response(text="modeldeploy_assignments_total{} 1\n")

    async with serving(other) as elsewhere:

        async def lead(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(elsewhere)

        assert await told(lead) is None
        with pytest.raises(ProviderError, match="answered 307"):
            await asked(lead)
        async with serving(lead) as url, HttpPodMetrics() as metrics:
            assert await metrics.start(url) is None
    assert not visitors


@pytest.mark.parametrize("value", ["+Inf", "-Inf", "NaN", "1e999"])
async def test_a_count_is_a_number(value: str) -> None:
    page = f'modeldeploy_requests_total{{code="200"}} {value}\n'
    assert await told(repeated(page.encode())) is None


async def test_a_page_of_metrics_is_limited() -> None:
    line = b'modeldeploy_requests_total{code="200"} 1\n'
    with memory_below(32 * MIB):
        assert await told(repeated(line, line, MIB)) is None
    long = b'modeldeploy_model_info{uri="' + b"u" * 60_000 + b'"} 1\n'
    said = await told(repeated(long))
    assert said is not None
    assert said.model is not None
    assert len(said.model.uri) == 1024


@pytest.mark.parametrize(
    ("begin", "piece", "times"),
    [
        pytest.param(b'modeldeploy_model_info{uri="', b"u", MIB, id="a line without an end"),
        pytest.param(b"", b'modeldeploy_outputs_total{output="a"} 1\n', 17_000, id="more lines than a server has"),
        pytest.param(b"", b"\x00\xff", MIB, id="no text"),
    ],
)
async def test_a_page_is_read_line_by_line(begin: bytes, piece: bytes, times: int) -> None:
    assert await told(repeated(begin, piece, times)) is None


async def test_a_page_that_arrives_in_pieces_is_read_whole() -> None:
    lines = [f'modeldeploy_outputs_total{{output="{number}"}} {number}\n' for number in range(2000)]
    said = await told(repeated("".join(lines).encode().removesuffix(b"\n")))
    assert said is not None
    assert said.outputs == {str(number): number for number in range(2000)}


async def test_errors_that_are_kept_hold_nothing_of_the_answers() -> None:
    kept = []
    begin, piece, _ = PREDICTIONS["many predictions"]
    whole = repeated(begin, piece, 80_000)
    async with serving(whole) as url, HttpPredictions(no_secret) as predictions:
        with memory_left(4 * MIB):
            for _ in range(8):
                with pytest.raises(ProviderError) as error:
                    await predictions.ask(url, ShadowRequest(every=1, seconds=60), "")
                kept.append(error.value)
    assert len(kept) == 8


@pytest.mark.parametrize("body", [b"[]", b'{"phase":1,"message":"a"}', b"[" * 60_000, b'{"phase":"loading"}'])
async def test_a_start_is_told_by_two_texts(body: bytes) -> None:
    async with serving(repeated(body)) as url, HttpPodMetrics() as metrics:
        assert await metrics.start(url) is None


async def test_a_message_is_cut() -> None:
    body = b'{"phase":"loading","message":"' + b"m" * 50_000 + b'"}'
    async with serving(repeated(body)) as url, HttpPodMetrics() as metrics:
        start = await metrics.start(url)
    assert start is not None
    assert len(start.message) == 1024
