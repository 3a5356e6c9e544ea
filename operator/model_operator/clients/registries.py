"""Writes tags of model versions into MLflow's registry.

https://mlflow.org/docs/latest/api_reference/rest-api.html#set-model-version-tag
"""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.source import VersionTags
from model_operator.clients.credentials import ReadSecret, keys_of, secret_of
from model_operator.clients.egress import LONGEST, EgressPolicy, RefusedAddress
from model_operator.clients.http import HttpClient, body_of
from model_operator.errors import ProviderError

ADDRESS = "MLFLOW_TRACKING_URI"
_USER, _PASSWORD, _TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
_LARGEST = 2**20
_ABSENT = "RESOURCE_DOES_NOT_EXIST"


class _Tag(msgspec.Struct, frozen=True):
    key: str
    value: str = ""


class _Version(msgspec.Struct, frozen=True):
    tags: tuple[_Tag, ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    """An answer: a version, or an error. It has more that is not ours to read."""

    model_version: _Version = _Version()
    error_code: str = ""


_ANSWER = msgspec.json.Decoder(_Answer)


class HttpRegistries(HttpClient):
    """Speaks MLflow's REST API; use it as an async context manager. It does not follow redirects."""

    def __init__(self, read_secret: ReadSecret, egress: EgressPolicy) -> None:
        super().__init__(lambda: aiohttp.ClientSession(connector=egress.connector()))
        self._read_secret, self._egress = read_secret, egress

    async def write(self, address: WebhookEndpoint, namespace: str, wanted: VersionTags) -> None:
        """Set the tags that the version does not have yet; a version that was deleted needs none.

        Raises:
            ProviderError: the registry did not accept one. The message has nothing of an answer.
        """
        url, headers = await self._where(address, namespace)
        self._egress.check_host(urlsplit(url).hostname or "")
        version = {"name": wanted.name, "version": wanted.version}
        found = await self._ask("GET", url, "model-versions/get", address, headers, params=version)
        if found.error_code == _ABSENT:
            return
        existing = {tag.key: tag.value for tag in found.model_version.tags}
        for key, value in wanted.tags.items():
            if existing.get(key) != value:
                body = {**version, "key": key, "value": value}
                await self._ask("POST", url, "model-versions/set-tag", address, headers, json=body)

    async def _ask(
        self, method: str, url: str, path: str, address: WebhookEndpoint, headers: Mapping[str, str], **more: Any
    ) -> _Answer:
        patience = min(address.timeout, LONGEST).total_seconds()
        timeout = aiohttp.ClientTimeout(total=patience)
        where = f"{url}/api/2.0/mlflow/{path}"
        try:
            async with self.session.request(
                method, where, headers=headers, timeout=timeout, allow_redirects=False, **more
            ) as response:
                text = await body_of(response, _LARGEST)
                if response.status not in (200, 404):
                    raise ProviderError(_refused(response.status))
                answer = _ANSWER.decode(text)
                if response.status == 404 and (answer.error_code != _ABSENT or method != "GET"):
                    raise ProviderError(_refused(404))
        except TimeoutError as error:
            raise ProviderError(f"the registry did not answer within {patience:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddress):
                raise ProviderError(str(error.os_error)) from error
            raise ProviderError("the registry cannot be reached") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError("what answers is no registry of MLflow: check the address") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise ProviderError(f"the registry cannot be reached ({type(error).__name__})") from error
        return answer

    async def _where(self, address: WebhookEndpoint, namespace: str) -> tuple[str, Mapping[str, str]]:
        name = address.secret_name
        held = await secret_of(self._read_secret, namespace, name) if name else {}
        url = (address.url or held.get(ADDRESS, "")).strip().rstrip("/")
        if urlsplit(url).scheme not in ("http", "https"):
            raise ProviderError(f"no address of the registry: write model.registry.url, or {ADDRESS} into the Secret")
        headers = _authorization(held)
        if name and not headers:
            raise ProviderError(
                f"Secret {name} needs {_USER} and {_PASSWORD}, or {_TOKEN}; its keys are: {keys_of(held)}"
            )
        return url, headers


def _authorization(held: Mapping[str, str]) -> Mapping[str, str]:
    """Return the header for user and password, or for a token, in MLflow's order."""
    user, password = (held.get(name, "").strip("\r\n") for name in (_USER, _PASSWORD))
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = held.get(_TOKEN, "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refused(status: int) -> str:
    if status in (401, 403):
        return f"the registry answered {status}: the user needs the permission EDIT on the registered model"
    return f"the registry answered {status}"
