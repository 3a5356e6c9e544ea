"""Reads the recent predictions of a pod (docs/wire.md), with an API key if its server requires one."""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse
from model_operator.clients.credentials import ReadSecret, secret_of
from model_operator.clients.http import HttpClient, body_of, session_with_pods
from model_operator.errors import ProviderError

TIMEOUT = 5.0
#: Maximum size of a response, in bytes: 64 workers keep 1024 predictions each.
_LARGEST = 32 * 2**20


class HttpPredictions(HttpClient):
    """Reads pods over HTTP; use it as an async context manager."""

    def __init__(self, read_secret: ReadSecret) -> None:
        super().__init__(lambda: session_with_pods(TIMEOUT))
        self._read_secret = read_secret

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
                f"{url}/shadow/predictions", data=orjson.dumps(_body(question)), headers=headers, ssl=False
            ) as response:
                text = await body_of(response, _LARGEST)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {TIMEOUT:g} s") from error
        except aiohttp.ClientError as error:
            raise ProviderError(f"{url} serves no predictions ({error}); older servers have no such port") from error
        if response.status != 200:
            raise ProviderError(f"{url} answered {response.status}: {text[:200].decode(errors='replace')}")
        return parse(text)


def parse(text: bytes) -> ShadowResponse:
    """Parse a response.

    Raises:
        ProviderError: it is not a response of a model server.
    """
    try:
        document = orjson.loads(text)
        predictions = tuple(_prediction(one) for one in document["predictions"])
        return ShadowResponse(cursor=tuple(map(int, document["cursor"])), predictions=predictions)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ProviderError("the response of the pod is not one of a model server") from error


def _body(question: ShadowRequest) -> Mapping[str, Any]:
    after = {} if question.after is None else {"after": question.after}
    return {"every": question.every, "seconds": question.seconds, **after}


def _prediction(one: Mapping[str, Any]) -> Prediction:
    numbers = tuple(None if number is None else float(number) for number in one.get("numbers", ()))
    labels = tuple(map(str, one.get("labels", ())))
    return Prediction(request=str(one["request"]), size=int(one["size"]), numbers=numbers, labels=labels)
