"""Has pods keep recent requests, and answer those of others (docs/wire.md); no answer is read beyond its limits."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, TypeVar

import aiohttp
import msgspec
import orjson

from model_operator.api.replay import MOST_BYTES, RecordedRequests, ReplayCounts, ReplayFault, ReplayTimes
from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import shadow_token
from model_operator.api.steps import Replay
from model_operator.api.sums import SumStats
from model_operator.clients.http import OTHER_FORM, HttpClient, body_of, session_with_pods
from model_operator.errors import ProviderError

#: Longer than servers take at most to answer a sample.
TIMEOUT = 40.0
#: Answers beyond these sizes are not read: requests with answers, and counts.
_LARGEST_SAMPLE, _LARGEST_COUNTS = MOST_BYTES + 2**16, 2**16
_MOST_REQUESTS = 2000
#: Characters of a refusal that are shown.
_MOST_WORDS = 500

T = TypeVar("T")
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_REQUESTS)]
_Sum = Annotated[float, msgspec.Meta(ge=0)]


class _Recorded(msgspec.Struct, frozen=True):
    kept: _Count
    requests: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=_MOST_REQUESTS)] = ()


class _Sums(msgspec.Struct, frozen=True):
    count: _Count
    total: _Sum
    squares: _Sum


class _Fault(msgspec.Struct, frozen=True):
    feature: Annotated[str, msgspec.Meta(max_length=100)]
    count: _Count


class _Times(msgspec.Struct, frozen=True):
    median: _Sum
    p95: _Sum


class _Counts(msgspec.Struct, frozen=True):
    requests: _Count
    agreed: _Count
    refused: _Count
    faults: Annotated[tuple[_Fault, ...], msgspec.Meta(max_length=5)]
    distance: _Sums
    timed: _Count
    slower: _Count
    stable: _Times
    canary: _Times


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""


class HttpReplays(HttpClient):
    """Asks pods over HTTP; use it as an async context manager."""

    def __init__(self, token_secret: bytes) -> None:
        super().__init__(lambda: session_with_pods(TIMEOUT))
        self._token_secret = token_secret

    def token(self, key: ObjectKey) -> str:
        """Return the token of a model's pods."""
        return shadow_token(self._token_secret, *key)

    async def requests(self, url: str, *, size: int, seconds: float, answer: int, token: str) -> RecordedRequests:
        """Have a pod keep `size` requests for so many seconds; return how many it has, and `answer` of them.

        Raises:
            ProviderError: the pod does not respond in time, or keeps no requests.
        """
        question = orjson.dumps({"requests": size, "seconds": seconds, "answer": answer})
        text = await self._post(f"{url}/shadow/requests", question, token, _LARGEST_SAMPLE)
        found = await asyncio.to_thread(_read, text, _Recorded)
        return RecordedRequests(kept=found.kept, requests=tuple(map(bytes, found.requests)))

    async def compare(self, url: str, step: Replay, sample: Sequence[bytes], *, token: str) -> ReplayCounts:
        """Have a pod answer requests of another, and compare.

        Raises:
            ProviderError: the pod does not respond in time, or not with counts.
        """
        how = {
            "tolerance": float(step.agreement.tolerance) if step.agreement else 0.0,
            "relative": step.distance is not None and step.distance.relative,
            "maxRatio": float(step.latency.max_ratio) if step.latency else 1.0,
        }
        body = orjson.dumps({"requests": [orjson.Fragment(one) for one in sample], **how})
        counts = _read(await self._post(f"{url}/shadow/replay", body, token, _LARGEST_COUNTS), _Counts)
        if not counts.agreed + counts.refused <= counts.requests <= len(sample) or counts.slower > counts.timed:
            raise ProviderError(f"{url} answered with counts that do not add up")
        return ReplayCounts(
            requests=counts.requests,
            agreed=counts.agreed,
            refused=counts.refused,
            faults=tuple(ReplayFault(feature=fault.feature, count=fault.count) for fault in counts.faults),
            distance=SumStats(
                count=counts.distance.count, total=counts.distance.total, squares=counts.distance.squares
            ),
            timed=counts.timed,
            slower=counts.slower,
            stable=ReplayTimes(median=counts.stable.median, p95=counts.stable.p95),
            canary=ReplayTimes(median=counts.canary.median, p95=counts.canary.p95),
        )

    async def _post(self, url: str, body: bytes, token: str, limit: int) -> bytes:
        headers = {"Content-Type": "application/json", "x-api-key": token}
        try:
            # Certificates do not name the addresses of pods.
            async with self.session.post(url, data=body, headers=headers, ssl=False, allow_redirects=False) as response:
                text = await body_of(response, limit + 1)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {TIMEOUT:g} s") from error
        except aiohttp.ClientError as error:
            raise ProviderError(f"{url} does not answer ({error})") from error
        if response.status == 404:
            raise ProviderError(f"{url} answered 404: its server is older than replays")
        if response.status != 200:
            raise ProviderError(f"{url} answered {response.status}{_words(text)}")
        if len(text) > limit:
            raise ProviderError(f"{url} answered with more than {limit} bytes")
        return text


def _read(text: bytes, kind: type[T]) -> T:
    """Read an answer; counts and lengths are limited before anything is built of them.

    Raises:
        ProviderError: it is not an answer of a model server.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except OTHER_FORM as error:
        raise ProviderError(f"a pod's answer about a replay is not one of a model server: {error}") from None


def _words(text: bytes) -> str:
    """Return why a server refused, as text; empty if it is no model server's sentence."""
    try:
        message = msgspec.json.decode(text, type=_Refusal).error
    except OTHER_FORM:
        return ""
    return f": {message[:_MOST_WORDS]}" if message else ""
