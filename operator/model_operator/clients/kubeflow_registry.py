"""Custom properties of model versions in Kubeflow's Model Registry; for `registries.py`.

Servers speak `v1`, or `v1alpha3` before it. https://www.kubeflow.org/docs/components/hub/reference/rest-api/
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from model_operator.api.source import VersionTags
from model_operator.clients.http import OTHER_FORM
from model_operator.clients.registry_dialect import Ask
from model_operator.errors import ProviderError

_TOKEN = "MODEL_REGISTRY_TOKEN"  # noqa: S105 - a key of a Secret
_VERSIONS = ("v1", "v1alpha3")
#: It becomes part of an address.
_Id = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,18}$")]


class _Model(msgspec.Struct, frozen=True):
    id: _Id


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    id: _Id
    custom_properties: dict[str, Any] | None = None


class _Refusal(msgspec.Struct, frozen=True):
    """What the registry says of an object that it does not have."""

    code: str | int
    message: str


class Kubeflow:
    """Kubeflow's Model Registry; a change names all properties of a version, so that those of others are sent back."""

    name = "Kubeflow"
    address = "MODEL_REGISTRY_URL"
    credentials = _TOKEN
    permission = "the token has to be one that may change the registry"

    def authorization(self, held: Mapping[str, str]) -> Mapping[str, str]:
        """Return the header for the token."""
        token = held.get(_TOKEN, "").strip()
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def write(self, ask: Ask, wanted: VersionTags) -> None:
        """Set the properties, all at once, where one differs."""
        refusals = []
        for api in _VERSIONS:
            base = f"api/model_registry/{api}"
            status, body = await ask("GET", f"{base}/registered_model", params={"name": wanted.name})
            if status == 200:
                model = msgspec.json.decode(body, type=_Model)
                await self._write_below(ask, base, model.id, wanted)
                return
            refusals.append(body)
        if not any(map(_is_refusal, refusals)):
            raise ProviderError("what answers is no registry of Kubeflow: check the address")

    async def _write_below(self, ask: Ask, base: str, model: str, wanted: VersionTags) -> None:
        query = {"name": wanted.version, "parentResourceId": model}
        status, body = await ask("GET", f"{base}/model_version", params=query)
        if status != 200:
            return
        version = msgspec.json.decode(body, type=_Version)
        existing = version.custom_properties or {}
        properties = {
            key: {"string_value": value, "metadataType": "MetadataStringValue"} for key, value in wanted.tags.items()
        }
        if properties.items() <= existing.items():
            return
        change = {"customProperties": {**existing, **properties}}
        status, _ = await ask("PATCH", f"{base}/model_versions/{version.id}", json=change)
        if status != 200:
            raise ProviderError(f"the registry answered {status}")


def _is_refusal(body: bytes) -> bool:
    """Whether the registry says that it has no such object, and no other server that it has no such page."""
    try:
        msgspec.json.decode(body, type=_Refusal)
    except OTHER_FORM:
        return False
    return True
