"""Protocol of a metric provider, and the shared parts: an HTTP session for JSON responses, Secrets, and numbers."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson

from model_operator.clients.credentials import authorization, keys_of
from model_operator.clients.egress import LONGEST, EgressPolicy, RefusedAddress
from model_operator.clients.http import body_of
from model_operator.errors import ProviderError

#: Maximum size of a response, in bytes: a larger one is not a single number.
_MAX_BYTES = 2**20

SourceT_contra = TypeVar("SourceT_contra", contravariant=True)


class Secret:
    """The keys of the Secret that a source names; an empty name means no Secret."""

    def __init__(self, name: str = "", held: Mapping[str, str] | None = None) -> None:
        self._name, self._held = name, held or {}

    def headers(self) -> Mapping[str, str]:
        """Return the Authorization header for `token`, or for `username` and `password`; no header without a Secret.

        Raises:
            ProviderError: the Secret has neither.
        """
        if not self._name:
            return {}
        headers = authorization(self._held)
        if headers is None:
            raise self._lacks("token, or username and password")
        return headers

    def key(self, name: str) -> str:
        """Return the value of one key.

        Raises:
            ProviderError: the Secret does not have it.
        """
        if name not in self._held:
            raise self._lacks(name)
        return self._held[name].strip()

    def _lacks(self, keys: str) -> ProviderError:
        return ProviderError(f"Secret {self._name} needs the key {keys}; its keys are: {keys_of(self._held)}")


class JsonSession:
    """An HTTP session for responses in JSON."""

    def __init__(self, session: aiohttp.ClientSession, egress: EgressPolicy) -> None:
        self._session, self._egress = session, egress

    async def get(self, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], patience: timedelta) -> Any:
        """Return the response to a GET request, which may take as long as `patience`.

        Raises:
            ProviderError: no answer in time, an error, no JSON, or a host that may not be requested. The message has
                nothing of an answer: it may be anything that the operator can reach.
        """
        self._egress.check_host(urlsplit(url).hostname or "")
        patience = min(patience, LONGEST)
        limit = aiohttp.ClientTimeout(total=patience.total_seconds())
        try:
            async with self._session.get(
                url, params=params, headers=headers, timeout=limit, allow_redirects=False
            ) as response:
                text = await body_of(response, _MAX_BYTES + 1)
                if response.status >= 300:
                    raise ProviderError(f"{url} answered {response.status}")
                if len(text) > _MAX_BYTES:
                    raise ProviderError(
                        f"{url} answered with more than {_MAX_BYTES // 2**20} MiB; one number is needed"
                    )
                body = orjson.loads(text)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {patience.total_seconds():g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddress):
                raise ProviderError(f"{url}: {error.os_error}") from error
            raise ProviderError(f"{url} cannot be reached: {error.os_error.strerror or 'no connection'}") from error
        except (aiohttp.ClientError, RecursionError) as error:
            raise ProviderError(f"{url} cannot be read ({type(error).__name__})") from error
        except orjson.JSONDecodeError as error:
            raise ProviderError(f"{url} answered {response.status} with something that is no JSON") from error
        return body


class MetricProvider(Protocol[SourceT_contra]):
    """A source of metric values, such as Prometheus."""

    async def value(self, source: SourceT_contra, secret: Secret) -> float | None:
        """Return the value, or None if there is none yet (an empty result, NaN, null).

        Raises:
            ProviderError: the provider timed out, returned an error, or returned no single number.
        """


def number(found: Any) -> float | None:
    """Return a number, or None for NaN.

    Raises:
        ProviderError: `found` is not a number.
    """
    # true is no number, although Python computes with it.
    if isinstance(found, bool):
        raise ProviderError("the answer has true or false where a number is needed")
    try:
        value = float(found)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProviderError(f"the answer has {_kind(found)} where a number is needed") from error
    if math.isinf(value):
        raise ProviderError("the answer has an infinite number")
    return None if math.isnan(value) else value


def _kind(found: Any) -> str:
    """Return what a JSON value is, without its content."""
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null", int: "a number beyond measure"}
    return names.get(type(found), "something")
