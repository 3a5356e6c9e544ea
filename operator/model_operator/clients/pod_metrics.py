"""Asks the pods of model servers, batches and pools for their counters and their state (docs/wire.md)."""

import math
import re
from dataclasses import dataclass

import aiohttp
import msgspec

from model_operator.api.batch import ShardProgress
from model_operator.api.pool import PoolSample
from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import shadow_token
from model_operator.clients.http import OTHER_FORM, HttpClient, body_of, pieces_of, session_with_pods
from model_operator.clients.metrics_page import LONGEST_TEXT, PageParser, Sample

TIMEOUT = 2.0
_STARTING = frozenset({"downloading", "loading", "warming"})
#: A page beyond this is not a model server's.
_LARGEST = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Start:
    """Progress of the start of the server of one pod."""

    phase: str
    message: str


class HttpPodMetrics(HttpClient):
    """Reads pods over HTTP; use it as an async context manager."""

    def __init__(self, token_secret: bytes = b"") -> None:
        super().__init__(lambda: session_with_pods(TIMEOUT))
        self._token_secret = token_secret

    async def read(self, url: str, token_of: ObjectKey | None = None) -> Sample | None:
        """Return the counters of a pod; None if it does not respond in time, or not with metrics.

        `token_of`: the model whose token the pod wants; None if its metrics are open.
        """
        headers = self._key(token_of)
        try:
            # Pods are asked by their addresses, which no certificate names; nor do the kubelet's probes verify it.
            async with self.session.get(
                f"{url}/metrics", headers=headers, ssl=False, allow_redirects=False
            ) as response:
                if response.status != 200:
                    return None
                page = PageParser()
                async for piece in pieces_of(response, _LARGEST):
                    page.feed(piece)
                return page.sample()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    def _key(self, token_of: ObjectKey | None) -> dict[str, str]:
        return {} if token_of is None else {"x-api-key": shadow_token(self._token_secret, *token_of)}

    async def shard(self, url: str) -> ShardProgress | None:
        """Return how far the pod of a batch is; None if it does not respond in time, or not with its progress."""
        try:
            async with self.session.get(f"{url}/metrics", ssl=False, allow_redirects=False) as response:
                data = await body_of(response, _LARGEST_STATE) if response.status == 200 else b""
                return parse_shard(data.decode(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    async def pool(self, url: str, token_of: ObjectKey | None = None) -> PoolSample | None:
        """Return how the models of a pool's pod are; None if it does not respond in time, or not with that.

        `token_of`: the pool whose token the pod wants; None if its metrics are open.
        """
        headers = self._key(token_of)
        try:
            async with self.session.get(f"{url}/pool", headers=headers, ssl=False, allow_redirects=False) as response:
                state = _POOL.decode(await body_of(response, _LARGEST_STATE))
        except (aiohttp.ClientError, TimeoutError, *OTHER_FORM):
            return None
        counts = (state.models.get(name, 0) for name in ("loaded", "failed", "aside"))
        loaded, failed, aside = (min(max(count, 0), _MOST_POOLED) for count in counts)
        shown = state.failures[:_MOST_FAILURES]
        failures = tuple((one.name[:_LONGEST_NAME], one.reason[:_LONGEST_NAME]) for one in shown)
        return PoolSample(loaded=loaded, failed=failed + aside, failures=failures)

    async def start(self, url: str) -> Start | None:
        """Return the progress of the start of a server; None if it does not respond or has finished starting."""
        try:
            async with self.session.get(f"{url}/readyz", ssl=False, allow_redirects=False) as response:
                state = _STATE.decode(await body_of(response, _LARGEST_STATE))
        except (aiohttp.ClientError, TimeoutError, *OTHER_FORM):
            return None
        return Start(state.phase, state.message[:LONGEST_TEXT]) if state.phase in _STARTING else None


def parse_shard(text: str) -> ShardProgress | None:
    """Parse the metrics of a pod of a batch; None where one of them is missing, or is no number that can be."""
    found = {name: float(value) for name, value in _SHARD_LINE.findall(f"\n{text}")}
    rows, failed, share = (found.get(name, math.nan) for name in _SHARD)
    if not (0 <= failed <= rows <= _MOST_ROWS and 0 <= share <= 1):
        return None
    return ShardProgress(int(rows), int(failed), share)


class _PooledFailure(msgspec.Struct, frozen=True):
    name: str
    reason: str


class _Pool(msgspec.Struct, frozen=True):
    """An answer of `/pool` (docs/wire.md)."""

    models: dict[str, int]
    failures: list[_PooledFailure]


_POOL = msgspec.json.Decoder(_Pool)
_MOST_POOLED, _MOST_FAILURES, _LONGEST_NAME = 100_000, 20, 128


class _State(msgspec.Struct, frozen=True):
    """An answer of `/readyz`; it has more that is not ours to read."""

    phase: str
    message: str


_STATE = msgspec.json.Decoder(_State)
_LARGEST_STATE = 64 * 2**10
_SHARD = ("modeldeploy_batch_rows_total", "modeldeploy_batch_failed_rows_total", "modeldeploy_batch_shard_progress")
_SHARD_LINE = re.compile(rf"\n({'|'.join(_SHARD)}) (\S+)")
_MOST_ROWS = 2**53
