"""Reads the recent predictions of a pod (docs/wire.md), with an API key if its server requires one."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import aiohttp
import msgspec
import orjson

from model_operator.api.resource import ObjectKey
from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse, shadow_token
from model_operator.clients.credentials import ReadSecret, secret_of
from model_operator.clients.http import HttpClient, body_of, session_with_pods
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


_DECODER = msgspec.json.Decoder(_Answer)


class HttpPredictions(HttpClient):
    """Reads pods over HTTP; use it as an async context manager."""

    def __init__(self, read_secret: ReadSecret, token_secret: bytes = b"") -> None:
        super().__init__(lambda: session_with_pods(TIMEOUT))
        self._read_secret, self._token_secret = read_secret, token_secret

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
        headers = {"Content-Type": "application/json", **({"x-api-key": api_key} if api_key else {})}
        try:
            # Certificates do not name the addresses of pods.
            async with self.session.post(
                f"{url}/shadow/predictions",
                data=orjson.dumps(_body(question)),
                headers=headers,
                ssl=False,
                allow_redirects=False,
            ) as response:
                text = await body_of(response, _LARGEST + 1)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {TIMEOUT:g} s") from error
        except aiohttp.ClientError as error:
            raise ProviderError(f"{url} serves no predictions ({error}); older servers have no such port") from error
        if response.status != 200:
            raise ProviderError(f"{url} answered {response.status}")
        if len(text) > _LARGEST:
            raise ProviderError(f"{url} answered with more than {_LARGEST // 2**20} MiB of predictions")
        # Off the loop: what a pod sends is not to delay anything but itself.
        return await asyncio.to_thread(parse, text)


def parse(text: bytes) -> ShadowResponse:
    """Read an answer; its bytes, its counts and the lengths of its texts are limited before anything is built of them.

    Raises:
        ProviderError: it is not a response of a model server.
    """
    try:
        answer = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProviderError(f"a pod's answer about its predictions is not one of a model server: {error}") from None
    predictions = tuple(
        Prediction(request=one.request, size=one.size, numbers=one.numbers, labels=one.labels)
        for one in answer.predictions
    )
    return ShadowResponse(cursor=answer.cursor, predictions=predictions)


def _body(question: ShadowRequest) -> Mapping[str, Any]:
    after = {} if question.after is None else {"after": question.after}
    return {"every": question.every, "seconds": question.seconds, **after}
