"""Any web service that answers GET with JSON."""

from typing import Any

from model_operator.api.analysis import Source
from model_operator.clients.metric_providers.provider import JsonSession, Secret, number
from model_operator.errors import ProviderError


class WebProvider:
    """Reads the number at a path of the answer."""

    def __init__(self, session: JsonSession) -> None:
        self._session = session

    async def value(self, source: Source, secret: Secret) -> float | None:
        """Return the number at the source's path."""
        body = await self._session.get(source.url, params={}, headers=secret.headers(), patience=source.timeout)
        return number_at(body, source.json_path)


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
    return None if found is None else number(found)
