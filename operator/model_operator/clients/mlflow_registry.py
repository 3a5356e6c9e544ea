"""Tags of model versions in MLflow's registry; for `registries.py`.

https://mlflow.org/docs/latest/api_reference/rest-api.html#set-model-version-tag
"""

import base64
from collections.abc import Mapping

import msgspec

from model_operator.api.source import VersionTags
from model_operator.clients.registry_dialect import Ask
from model_operator.errors import ProviderError

_USER, _PASSWORD, _TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
_API = "api/2.0/mlflow/model-versions"
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


class MLflow:
    """MLflow's tracking server; each tag is written by a request of its own."""

    name = "MLflow"
    address = "MLFLOW_TRACKING_URI"
    credentials = f"{_USER} and {_PASSWORD}, or {_TOKEN}"
    permission = "the user needs the permission EDIT on the registered model"

    def authorization(self, held: Mapping[str, str]) -> Mapping[str, str]:
        """Return the header for user and password, or for a token, in MLflow's order."""
        user, password = (held.get(name, "").strip("\r\n") for name in (_USER, _PASSWORD))
        if user and password:
            return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
        token = held.get(_TOKEN, "").strip()
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def write(self, ask: Ask, wanted: VersionTags) -> None:
        """Set the tags that differ, in their order."""
        version = {"name": wanted.name, "version": wanted.version}
        status, body = await ask("GET", f"{_API}/get", params=version)
        found = _ANSWER.decode(body)
        if status == 404:
            if found.error_code == _ABSENT:
                return
            raise ProviderError("the registry answered 404")
        existing = {tag.key: tag.value for tag in found.model_version.tags}
        for key, value in wanted.tags.items():
            if existing.get(key) != value:
                status, body = await ask("POST", f"{_API}/set-tag", json={**version, "key": key, "value": value})
                _ANSWER.decode(body)
                if status == 404:
                    raise ProviderError("the registry answered 404")
