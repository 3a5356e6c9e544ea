"""Requests web hooks: gates, notifications, retraining.

A webhook with a Secret is called at the `url` in the Secret if it has one (the URL of a Slack webhook is a secret),
with its `token` or its `username` and `password`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from model_operator.api.hooks import GateAnswer, WebhookEndpoint
from model_operator.clients.credentials import ReadSecret, authorization, keys_of, secret_of
from model_operator.clients.egress import LONGEST, EgressPolicy, RefusedAddress
from model_operator.clients.http import OF_ALL, OF_ONE, HttpClient, body_of, session_with_users
from model_operator.errors import ProviderError
from model_operator.turns import Turns

#: Bytes of an answer that are read, so that the connection can be kept. Nothing of them is shown: what a hook answers
#: may be anything that the operator can reach.
_LARGEST = 65_536


class HttpWebhooks(HttpClient):
    """Posts JSON; use it as an async context manager. It does not follow redirects: the spec names the final URL."""

    def __init__(self, read_secret: ReadSecret, egress: EgressPolicy) -> None:
        def make() -> aiohttp.ClientSession:
            return session_with_users(egress.connector(), json_serialize=lambda body: orjson.dumps(body).decode())

        super().__init__(make)
        self._read_secret, self._egress = read_secret, egress
        self._turns = Turns(of_one=OF_ONE, of_all=OF_ALL)

    async def ask(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> GateAnswer:
        """Return whether a gate is open: with 2xx it is open, with any other response it is closed, with the reason."""
        try:
            status = await self._post(address, namespace, body)
        except ProviderError as error:
            return GateAnswer(is_open=False, message=str(error))
        is_open = 200 <= status < 300
        return GateAnswer(is_open=is_open, message="open" if is_open else f"answered {status}")

    async def notify(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> None:
        """Post a notification.

        Raises:
            ProviderError: the webhook did not accept it.
        """
        status = await self._post(address, namespace, body)
        if not 200 <= status < 300:
            raise ProviderError(f"answered {status}")

    async def _post(self, address: WebhookEndpoint, namespace: str, body: Mapping[str, Any]) -> int:
        url, headers = await self._where(address, namespace)
        self._egress.check_host(urlsplit(url).hostname or "")
        patience = min(address.timeout, LONGEST).total_seconds()
        timeout = aiohttp.ClientTimeout(total=patience)
        try:
            async with (
                self._turns.of(namespace),
                self.session.post(url, json=body, headers=headers, timeout=timeout, allow_redirects=False) as response,
            ):
                await body_of(response, _LARGEST)
                return response.status
        except TimeoutError as error:
            raise ProviderError(f"did not answer within {patience:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddress):
                raise ProviderError(str(error.os_error)) from error
            raise ProviderError("cannot be reached") from error
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
