"""Any web service that responds to GET with JSON."""

from typing import Any

from model_operator.api.analysis import Source
from model_operator.clients.metric_providers.provider import JsonSession, Secret, number
from model_operator.errors import ProviderError


class WebProvider:
    """Reads the number at a path in the response."""

    def __init__(self, session: JsonSession) -> None:
        self._session = session

    async def value(self, source: Source, secret: Secret) -> float | None:
        """Return the number at the source's path."""
        body = await self._session.get(source.url, params={}, headers=secret.headers(), patience=source.timeout)
        return number_at(body, source.json_path)


def number_at(body: Any, path: str) -> float | None:
    """Return the number at a path such as `$.data.rate` or `$.values[0]`.

    Raises:
        ProviderError: the path does not exist, or its value is not a number.
    """
    found = body
    for part in path.removeprefix("$").replace("[", ".").replace("]", "").split("."):
        if not part:
            continue
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProviderError(f"the response has no value at {path}") from error
    return None if found is None else number(found)
