"""What is needed of MLflow's REST API: versions, aliases, and where a version's files are; for `mlflow_models.py`.

https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from model_server.errors import ArtifactNotFound
from model_server.storage.redaction import redacted
from model_server.storage.registry_server import RegistryServer, Words, bearer
from model_server.storage.web import Answer, ask

ADDRESS = "MLFLOW_TRACKING_URI"
_MOST_BYTES = 2**20
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")

T = TypeVar("T")


class ModelVersion(msgspec.Struct, frozen=True):
    """A version of a registered model; answers have more that is not needed."""

    version: str | int
    source: str = ""
    run_id: str | None = ""
    creation_timestamp: int | str = 0
    status: str = "READY"

    def __post_init__(self) -> None:
        """Refuse what is no number: it becomes the name of a folder."""
        if not _NUMBER.fullmatch(str(self.version)):
            raise ValueError("a version is a whole number")

    @property
    def number(self) -> int:
        """Its number."""
        return int(self.version)


class _Found(msgspec.Struct, frozen=True):
    model_version: ModelVersion


class _Location(msgspec.Struct, frozen=True):
    artifact_uri: str


@dataclass(frozen=True, slots=True)
class Tracking(RegistryServer):
    """A tracking server, and the headers that say who asks."""

    words = Words(
        scheme="models:/",
        server="tracking server",
        setting=ADDRESS,
        example="https://mlflow.example.com; user and password are MLFLOW_TRACKING_USERNAME and _PASSWORD",
        api="MLflow's API",
        served_by="`mlflow server`",
        refused_hint="Put MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, into the"
        " Secret in secretName; the user needs the permission READ on the registered model.",
    )

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Tracking:
        """The tracking server of the environment. Raises SettingsInvalid."""
        return cls(cls.address(environ), _authorization(environ))

    def version(self, name: str, number: int) -> ModelVersion:
        """A version by its number. Raises ArtifactNotFound and StorageError."""
        what = f"version {number} of the model {name!r}"
        hint = "Check name and version in the registry."
        found = self._read("mlflow/model-versions/get", {"name": name, "version": str(number)}, _Found, what, hint)
        if found.model_version.number != number:
            raise self.strange("another version than was asked for")
        return found.model_version

    def version_with_alias(self, name: str, alias: str) -> ModelVersion:
        """The version that an alias names now. Raises ArtifactNotFound and StorageError."""
        what = f"model {name!r} with the alias {alias!r}"
        hint = f"Set it: MlflowClient().set_registered_model_alias({name!r}, {alias!r}, version)."
        found = self._read("mlflow/registered-models/alias", {"name": name, "alias": alias}, _Found, what, hint)
        return found.model_version

    def location(self, name: str, number: int) -> str:
        """Where the files of a version are: a URI of a storage, or of the tracking server itself."""
        what = f"version {number} of the model {name!r}"
        query = {"name": name, "version": str(number)}
        return self._read("mlflow/model-versions/get-download-uri", query, _Location, what, "").artifact_uri

    def read(self, path: str, query: Mapping[str, str], kind: type[T]) -> T:
        """Read a document of the API. Raises StorageError."""
        return self.decoded(self._ask(path, query), kind)

    def _read(self, path: str, query: Mapping[str, str], kind: type[T], what: str, hint: str) -> T:
        """Read what may not exist: an alias that nobody set is answered 400, and all else 404."""
        answer = self._ask(path, query, accept=(400, 404))
        if answer.status != 200:
            raise ArtifactNotFound(f"the registry {redacted(self.url)} has no {what}", hint=hint)
        return self.decoded(answer, kind)

    def _ask(self, path: str, query: Mapping[str, str], accept: Collection[int] = ()) -> Answer:
        address = f"{self.url}/api/2.0/{path}?{urlencode(query)}"
        with self.explained():
            return ask(address, headers=self.headers, accept=accept, most_bytes=_MOST_BYTES)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """The header for user and password, or for a token, in MLflow's order. Raises SettingsInvalid."""
    user, password = (environ.get(f"MLFLOW_TRACKING_{one}", "").strip("\r\n") for one in ("USERNAME", "PASSWORD"))
    if user and password:
        return {"authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    return bearer(environ, "MLFLOW_TRACKING_TOKEN")
