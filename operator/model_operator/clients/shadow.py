"""Reads the recent predictions of a pod (docs/wire.md), with an API key if its server requires one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import aiohttp
import msgspec
import orjson

from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse, shadow_token
from model_operator.clients.credentials import ReadSecret, secret_of
from model_operator.clients.http import OTHER_FORM, HttpClient, body_of, session_with_pods
from model_operator.errors import ProviderError

TIMEOUT = 5.0
#: An answer beyond this is not read: a sampled look has a few hundred predictions of at most 16 values.
_LARGEST = 2 * 2**20
#: As many as 16 workers keep at most.
_MOST = 16 * 1024

_Digest = Annotated[str, msgspec.Meta(max_length=128)]


class _Prediction(msgspec.Struct, frozen=True):
    """One prediction as it is on the wire; what is beyond these sizes is no model server's."""

    request: _Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    numbers: Annotated[tuple[float | None, ...], msgspec.Meta(max_length=16)] = ()
    labels: Annotated[tuple[_Digest, ...], msgspec.Meta(max_length=16)] = ()


class _Answer(msgspec.Struct, frozen=True):
    """An answer as it is on the wire."""

    cursor: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**53)], ...], msgspec.Meta(max_length=1024)]
    predictions: Annotated[tuple[_Prediction, ...], msgspec.Meta(max_length=_MOST)]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an answer is none of a model server."""

    message: str


_DECODER = msgspec.json.Decoder(_Answer)


class HttpPredictions(HttpClient):
    """Reads pods over HTTP; use it as an async context manager."""

    def __init__(self, read_secret: ReadSecret, token_secret: bytes = b"") -> None:
        super().__init__(lambda: session_with_pods(TIMEOUT))
        self._read_secret, self._token_secret = read_secret, token_secret
        self._parsing = asyncio.Lock()

    def token(self, key: ObjectKey) -> str:
        """Return the token of a model's pods."""
        return shadow_token(self._token_secret, *key)

    async def api_key(self, namespace: str, secret_name: str) -> str:
        """Return one of the keys in a Secret.

        Raises:
            ProviderError: the Secret cannot be read, or has no keys.
        """
        held = await secret_of(self._read_secret, namespace, secret_name)
        keys = [value.strip() for _, value in sorted(held.items()) if value.strip()]
        if not keys:
            raise ProviderError(f"Secret {secret_name} holds no API key for the port of recent predictions")
        return keys[0]

    async def ask(self, url: str, question: ShadowRequest, api_key: str) -> ShadowResponse:
        """Return the predictions of a pod.

        Raises:
            ProviderError: the pod does not respond in time, or not with predictions.
        """
        try:
            answer = await self._ask(url, question, api_key)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {TIMEOUT:g} s") from error
        except aiohttp.ClientError as error:
            raise ProviderError(f"{url} serves no predictions ({error}); older servers have no such port") from error
        # Raised here, where no frame of the traceback holds the bytes: errors are kept for a while, and so were they.
        if isinstance(answer, Problem):
            raise ProviderError(answer.message)
        return answer

    async def _ask(self, url: str, question: ShadowRequest, api_key: str) -> ShadowResponse | Problem:
        headers = {"Content-Type": "application/json", **({"x-api-key": api_key} if api_key else {})}
        # Certificates do not name the addresses of pods.
        async with self.session.post(
            f"{url}/shadow/predictions",
            data=orjson.dumps(_body(question)),
            headers=headers,
            ssl=False,
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                return Problem(f"{url} answered {response.status}")
            text = await body_of(response, _LARGEST + 1)
        if len(text) > _LARGEST:
            return Problem(f"{url} answered with more than {_LARGEST // 2**20} MiB of predictions")
        # Off the loop, since it may take as long as a look at everything else; one at a time, since what is built of
        # a hostile answer takes many times its bytes until it is refused.
        async with self._parsing:
            return await asyncio.to_thread(parse, text)


def parse(text: bytes) -> ShadowResponse | Problem:
    """Read an answer; its bytes, counts and the lengths of its texts are limited before anything is built of them."""
    try:
        answer = _DECODER.decode(text)
    except OTHER_FORM as error:
        return Problem(f"a pod's answer about its predictions is not one of a model server: {error}")
    predictions = tuple(
        Prediction(request=one.request, size=one.size, numbers=one.numbers, labels=one.labels)
        for one in answer.predictions
    )
    return ShadowResponse(cursor=answer.cursor, predictions=predictions)


def _body(question: ShadowRequest) -> Mapping[str, Any]:
    after = {} if question.after is None else {"after": question.after}
    return {"every": question.every, "seconds": question.seconds, **after}
