"""Writes verdicts on versions of models into their registries: asks them, whichever registry it is."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.source import RegistryKind, VersionTags
from model_operator.clients.credentials import ReadSecret, keys_of, secret_of
from model_operator.clients.egress import LONGEST, EgressPolicy, RefusedAddress
from model_operator.clients.http import OF_ALL, OF_ONE, OTHER_FORM, HttpClient, body_of, session_with_users
from model_operator.clients.kubeflow_registry import Kubeflow
from model_operator.clients.mlflow_registry import MLflow
from model_operator.clients.registry_dialect import Answer, Dialect
from model_operator.errors import ProviderError
from model_operator.turns import Turns

_LARGEST = 2**20


_DIALECTS: Mapping[RegistryKind, Dialect] = {"mlflow": MLflow(), "kubeflow": Kubeflow()}


class HttpRegistries(HttpClient):
    """Use it as an async context manager. It does not follow redirects."""

    def __init__(self, read_secret: ReadSecret, egress: EgressPolicy) -> None:
        super().__init__(lambda: session_with_users(egress.connector()))
        self._read_secret, self._egress = read_secret, egress
        self._turns = Turns(of_one=OF_ONE, of_all=OF_ALL)

    async def write(self, address: WebhookEndpoint, namespace: str, wanted: VersionTags) -> None:
        """Set the tags that the version does not have yet; a version that was deleted needs none.

        Raises:
            ProviderError: the registry did not accept one. The message has nothing of an answer.
        """
        dialect = _DIALECTS[wanted.registry]
        url, headers = await self._where(dialect, address, namespace)
        self._egress.check_host(urlsplit(url).hostname or "")
        patience = min(address.timeout, LONGEST).total_seconds()

        async def ask(method: str, path: str, **more: Any) -> Answer:
            return await self._ask(dialect, patience, method, f"{url}/{path}", headers=headers, **more)

        try:
            async with self._turns.of(namespace):
                await dialect.write(ask, wanted)
        except OTHER_FORM as error:
            raise ProviderError(f"what answers is no registry of {dialect.name}: check the address") from error

    async def _ask(self, dialect: Dialect, patience: float, method: str, where: str, **more: Any) -> Answer:
        try:
            async with self.session.request(
                method, where, timeout=aiohttp.ClientTimeout(total=patience), allow_redirects=False, **more
            ) as response:
                text = await body_of(response, _LARGEST)
                if response.status not in (200, 404):
                    raise ProviderError(_refused(response.status, dialect))
                return Answer(response.status, text)
        except TimeoutError as error:
            raise ProviderError(f"the registry did not answer within {patience:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddress):
                raise ProviderError(str(error.os_error)) from error
            raise ProviderError("the registry cannot be reached") from error
        except UnicodeDecodeError:
            raise
        except (aiohttp.ClientError, ValueError) as error:
            raise ProviderError(f"the registry cannot be reached ({type(error).__name__})") from error

    async def _where(self, dialect: Dialect, address: WebhookEndpoint, namespace: str) -> tuple[str, Mapping[str, str]]:
        name = address.secret_name
        held = await secret_of(self._read_secret, namespace, name) if name else {}
        url = (address.url or held.get(dialect.address, "")).strip().rstrip("/")
        if urlsplit(url).scheme not in ("http", "https"):
            raise ProviderError(
                f"no address of the registry: write model.registry.url, or {dialect.address} into the Secret"
            )
        headers = dialect.authorization(held)
        if name and not headers:
            raise ProviderError(f"Secret {name} needs {dialect.credentials}; its keys are: {keys_of(held)}")
        return url, headers


def _refused(status: int, dialect: Dialect) -> str:
    lacks = f": {dialect.permission}" if status in (401, 403) else ""
    return f"the registry answered {status}{lacks}"
