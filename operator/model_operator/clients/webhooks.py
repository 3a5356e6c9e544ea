"""Calls webhooks over HTTP: gates and notifications.

A webhook with a Secret is called at the `url` in the Secret if it has one (the URL of a Slack webhook is a secret),
with its `token` or its `username` and `password`.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from model_operator.api.hooks import GateAnswer, WebhookEndpoint
from model_operator.clients.credentials import ReadSecret, authorization, keys_of, secret_of
from model_operator.clients.http import HttpClient, body_of
from model_operator.errors import ProviderError

#: Maximum size of a response in bytes, and maximum length of its message in characters.
_LARGEST, _SHOWN = 65_536, 200


class HttpWebhooks(HttpClient):
    """Posts JSON; use it as an async context manager. It does not follow redirects: the spec names the final URL."""

    def __init__(self, read_secret: ReadSecret) -> None:
        super().__init__(lambda: aiohttp.ClientSession(json_serialize=lambda body: orjson.dumps(body).decode()))
        self._read_secret = read_secret

    async def ask(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> GateAnswer:
        """Return whether a gate is open: with 2xx it is open, with any other response it is closed, with the reason."""
        try:
            status, text = await self._post(address, namespace, body)
        except ProviderError as error:
            return GateAnswer(is_open=False, message=str(error))
        is_open = 200 <= status < 300
        return GateAnswer(is_open=is_open, message=_message(text) or ("open" if is_open else f"answered {status}"))

    async def notify(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> None:
        """Post a notification.

        Raises:
            ProviderError: the webhook did not accept it.
        """
        status, text = await self._post(address, namespace, body)
        if not 200 <= status < 300:
            raise ProviderError(f"answered {status}: {_message(text)}")

    async def _post(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        url, headers = await self._where(address, namespace)
        timeout = aiohttp.ClientTimeout(total=address.timeout.total_seconds())
        try:
            async with self.session.post(
                url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status, await body_of(response, _LARGEST)
        except TimeoutError as error:
            raise ProviderError(f"did not answer within {address.timeout.total_seconds():g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            # The message of the error contains the URL, which may be a secret.
            raise ProviderError(f"cannot be reached ({type(error).__name__})") from error

    async def _where(self, address: WebhookEndpoint, namespace: str) -> tuple[str, Mapping[str, str]]:
        if address.secret_name is None:
            return address.url, {}
        name = address.secret_name
        held = await secret_of(self._read_secret, namespace, name)
        headers, url = authorization(held), held.get("url", "").strip() or address.url
        if headers is None and "url" not in held:
            raise ProviderError(
                f"Secret {name} needs url, token, or username and password; its keys are: {keys_of(held)}"
            )
        if not url:
            raise ProviderError(f"Secret {name} has no key url, and the webhook has no url either")
        return url, headers or {}


def _message(text: bytes) -> str:
    """Return the message of a response: `message` of a JSON object, or the text itself, shortened."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = None
    message = body.get("message", "") if isinstance(body, dict) else text.decode(errors="replace")
    return " ".join(str(message).split())[:_SHOWN]
