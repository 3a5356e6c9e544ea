"""What is needed of the REST API of Kubeflow's Model Registry: models, versions, artifacts; for `model_registry.py`.

Servers speak `v1`, or `v1alpha3` before it; these documents are the same in both.
https://www.kubeflow.org/docs/components/hub/reference/rest-api/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from model_server.errors import ArtifactNotFound
from model_server.storage.redaction import redacted
from model_server.storage.registry_server import RegistryServer, Words, bearer
from model_server.storage.web import ask

ADDRESS, TOKEN = "MODEL_REGISTRY_URL", "MODEL_REGISTRY_TOKEN"
_VERSIONS = ("v1", "v1alpha3")
_MOST_BYTES = 4 * 2**20
_PAGE, _MOST_PAGES = 100, 20
_ID = re.compile(r"[1-9][0-9]{0,18}")
#: A version's name becomes the name of a folder, and a word in a file.
_NAME = re.compile(r"[A-Za-z0-9][-._+A-Za-z0-9]{0,127}")
#: States of artifacts whose files are not there, or not any more.
_GONE = ("PENDING", "MARKED_FOR_DELETION", "DELETED", "ABANDONED")

T = TypeVar("T")


class _Resource(msgspec.Struct, frozen=True):
    id: str
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no number: it becomes part of an address."""
        if not _ID.fullmatch(self.id):
            raise ValueError("an id is a whole number")


class RegisteredModel(_Resource, frozen=True):
    """A registered model."""


class ModelVersion(_Resource, frozen=True):
    """A version of a registered model; answers have more that is not needed."""

    state: str = "LIVE"


class ModelArtifact(_Resource, frozen=True, rename="camel"):
    """An artifact of a version; of all kinds, only models are used."""

    artifact_type: str = "model-artifact"
    uri: str = ""
    state: str = "UNKNOWN"

    @property
    def is_model(self) -> bool:
        """Whether it is a model whose files are there."""
        return self.artifact_type == "model-artifact" and self.state not in _GONE


class _Versions(msgspec.Struct, frozen=True, rename="camel"):
    items: tuple[ModelVersion, ...] = ()
    next_page_token: str = ""


class _Artifacts(msgspec.Struct, frozen=True, rename="camel"):
    items: tuple[ModelArtifact, ...] = ()
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class ModelRegistry(RegistryServer):
    """A registry, and the headers that say who asks."""

    words = Words(
        scheme="model-registry://",
        server="registry",
        setting=ADDRESS,
        example=f"http://model-registry-service.kubeflow.svc:8080; a token is {TOKEN}",
        api="the Model Registry's API",
        served_by="the registry's REST API",
        refused_hint=f"Put {TOKEN} into the Secret in secretName: a token that may read the registry.",
    )

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ModelRegistry:
        """The registry of the environment. Raises SettingsInvalid."""
        return cls(cls.address(environ), bearer(environ, TOKEN))

    def registered_model(self, name: str) -> RegisteredModel:
        """A registered model by its name. Raises ArtifactNotFound and StorageError."""
        hint = "Check the name in the registry."
        return self._read("registered_model", {"name": name}, RegisteredModel, f"model {name!r}", hint)

    def version(self, model: RegisteredModel, name: str) -> ModelVersion:
        """A version by its name. Raises ArtifactNotFound and StorageError."""
        query = {"name": name, "parentResourceId": model.id}
        what = f"version {name!r} of the model {model.name!r}"
        found = self._read("model_version", query, ModelVersion, what, "Check name and version in the registry.")
        if found.name != name:
            raise self.strange("another version than was asked for")
        return found

    def newest_version(self, model: RegisteredModel) -> ModelVersion:
        """The version that was registered last, of those that are live. Raises ArtifactNotFound and StorageError."""
        path = f"registered_models/{model.id}/versions"
        for page in self._pages(path, _Versions, f"versions of the model {model.name!r}"):
            live = [one for one in page.items if one.state == "LIVE"]
            if live:
                newest = max(live, key=lambda one: int(one.id))
                if _NAME.fullmatch(newest.name):
                    return newest
                raise ArtifactNotFound(
                    f"the newest version of the model {model.name!r} is called {newest.name[:128]!r}, which is no name"
                    " of a file",
                    hint="Register it under a name of letters, digits and . _ + - alone.",
                )
        raise ArtifactNotFound(
            f"the registry {redacted(self.url)} has no live version of the model {model.name!r}",
            hint="Register one, or take one out of the archive.",
        )

    def artifact(self, model: RegisteredModel, version: ModelVersion) -> ModelArtifact:
        """The newest artifact of a version that is a model. Raises ArtifactNotFound and StorageError."""
        path, what = f"model_versions/{version.id}/artifacts", f"version {version.name!r} of the model {model.name!r}"
        for page in self._pages(path, _Artifacts, f"artifacts of {what}"):
            models = [one for one in page.items if one.is_model]
            if models:
                newest = max(models, key=lambda one: int(one.id))
                if newest.uri:
                    return newest
                raise ArtifactNotFound(f"{what} has an artifact without a URI", hint="Register it with one.")
        raise ArtifactNotFound(f"{what} has no artifact that is a model", hint="Register it with the URI of its files.")

    def _pages(self, path: str, kind: type[T], what: str) -> Iterator[T]:
        """Read a list, the newest first."""
        token = ""
        for _ in range(_MOST_PAGES):
            query = {"orderBy": "ID", "sortOrder": "DESC", "pageSize": str(_PAGE)}
            page = self._read(path, query | ({"nextPageToken": token} if token else {}), kind, what, "")
            yield page
            token = getattr(page, "next_page_token", "")
            if not token:
                return
        raise self.strange(f"more than {_MOST_PAGES * _PAGE} {what}, none of which is live")

    def _read(self, path: str, query: Mapping[str, str], kind: type[T], what: str, hint: str) -> T:
        """Read a document in the version of the API that the server speaks. Raises StorageError."""
        is_known = False
        for version in _VERSIONS:
            address = f"{self.url}/api/model_registry/{version}/{path}?{urlencode(query)}"
            with self.explained():
                answer = ask(address, headers=self.headers, accept=(404,), most_bytes=_MOST_BYTES)
            if answer.status == 200:
                return self.decoded(answer, kind)
            # The registry says so in its words, and another server that it has no such page.
            is_known |= answer.headers.get_content_type() == "application/json"
        if not is_known:
            raise self.strange("no answer of the Model Registry's API")
        raise ArtifactNotFound(f"the registry {redacted(self.url)} has no {what}", hint=hint)
