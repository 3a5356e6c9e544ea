"""Asks Prometheus (HTTP API v1, instant queries) or a web hook for one number.

A source with a Secret is asked with what the Secret holds: `token` (a bearer token), or `username` and `password`.
"""

import math
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from model_operator.api.analysis import Source
from model_operator.clients.credentials import ReadSecret, authorization, keys_of, secret_of
from model_operator.clients.http import HttpClient, body_of
from model_operator.errors import ProviderError

#: An answer beyond this is no single number.
_LARGEST = 2**20


class HttpMetricValues(HttpClient):
    """Asks over HTTP; use it as an async context manager."""

    def __init__(self, read_secret: ReadSecret) -> None:
        super().__init__(aiohttp.ClientSession)
        self._read_secret = read_secret

    async def value(self, source: Source, namespace: str) -> float | None:
        """Return the value, None when there is none yet (an empty result, NaN, null); Secrets are `namespace`'s.

        Raises:
            ProviderError: no answer in time, an error, or something that is no single number.
        """
        headers = await self._credentials(source.secret_name, namespace) if source.secret_name else {}
        if source.query is None:
            return number_at(await self._get(source, source.url, {}, headers), source.json_path)
        url = source.url.rstrip("/") + "/api/v1/query"
        return result_of(await self._get(source, url, {"query": source.query}, headers))

    async def _credentials(self, name: str, namespace: str) -> Mapping[str, str]:
        held = await secret_of(self._read_secret, namespace, name)
        headers = authorization(held)
        if headers is None:
            raise ProviderError(
                f"Secret {name} needs the key token, or username and password; its keys are: {keys_of(held)}"
            )
        return headers

    async def _get(self, source: Source, url: str, params: dict[str, str], headers: Mapping[str, str]) -> Any:
        timeout = aiohttp.ClientTimeout(total=source.timeout.total_seconds())
        try:
            async with self.session.get(url, params=params, headers=headers, timeout=timeout) as response:
                text = await body_of(response, _LARGEST)
                body = orjson.loads(text)
        except TimeoutError as error:
            raise ProviderError(f"{url} did not answer within {source.timeout.total_seconds():g} s") from error
        except aiohttp.ClientError as error:
            raise ProviderError(f"{url}: {error}") from error
        except orjson.JSONDecodeError as error:
            raise ProviderError(f"{url} answered {response.status} with something that is no JSON") from error
        if response.status >= 400:
            why = body.get("error", "") if isinstance(body, dict) else ""
            raise ProviderError(f"{url} answered {response.status}: {why or text[:200].decode(errors='replace')}")
        return body


def result_of(body: Any) -> float | None:
    """Read the one number of a Prometheus answer.

    Raises:
        ProviderError: the result is a string, a matrix, or has several series.
    """
    try:
        kind, result = body["data"]["resultType"], body["data"]["result"]
        if kind == "vector" and len(result) > 1:
            raise ProviderError(
                f"the query gives {len(result)} series where one is needed; aggregate them, as in sum(...)"
            )
        if kind == "vector":
            return _number(result[0]["value"][1]) if result else None
        if kind == "scalar":
            return _number(result[1])
    except (KeyError, TypeError, IndexError) as error:
        raise ProviderError("the answer is not one of Prometheus' query API") from error
    raise ProviderError(f"the query gives a {kind} where a single number is needed")


def number_at(body: Any, path: str) -> float | None:
    """Read the number at a path such as `$.data.rate` or `$.values[0]`.

    Raises:
        ProviderError: there is nothing at the path, or no number.
    """
    found = body
    for part in path.removeprefix("$").replace("[", ".").replace("]", "").split("."):
        if not part:
            continue
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProviderError(f"the answer has nothing at {path}") from error
    return None if found is None else _number(found)


def _number(found: Any) -> float | None:
    try:
        number = float(found)
    except (TypeError, ValueError) as error:
        raise ProviderError(f"{found!r} is no number") from error
    return None if math.isnan(number) else number
