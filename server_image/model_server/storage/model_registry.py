"""`model-registry://name` and `model-registry://name/version`: a version of a model in Kubeflow's Model Registry.

The registry is at `MODEL_REGISTRY_URL`, with `MODEL_REGISTRY_TOKEN`. It knows versions and where their files lie; these
are read there, with the credentials of that storage. Without a version the URI names the newest one that is not
archived; it is looked up once for a download, so that all files are of one version.
https://www.kubeflow.org/docs/components/hub/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.model_registry_api import ModelArtifact, ModelRegistry, ModelVersion
from model_server.storage.progress import Progress
from model_server.storage.registered_files import fetch_version, named_in, stored_at

_URI = re.compile(r"model-registry://(?P<name>[^/@?#]+)(/(?P<version>[A-Za-z0-9][-._+A-Za-z0-9]{0,127}))?")
_HINT = "Register it with the URI of a storage"


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the files of a version into a folder that is named by it."""
    version, artifact = _Wanted.of(uri).ask(ModelRegistry.of(environ))
    address = stored_at(artifact.uri, uri, hint=_HINT)
    return fetch_version(address, into / version.name, environ=environ, progress=progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """The version's name, and what tells it from another one of this name: its id, its artifact and where that lies.

    What people write on a version later, such as a description or properties, makes no other model of it.
    """
    version, artifact = _Wanted.of(uri).ask(ModelRegistry.of(environ))
    return f"{version.name}-{fingerprint_of((version.id, artifact.id, artifact.uri))}"


def version_of(fetched: Path) -> str:
    """The name of the version in a folder that `fetch` returned, or in a copy of it."""
    return fetched.name


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a URI names; `version` is empty for the newest."""

    name: str
    version: str

    @classmethod
    def of(cls, uri: str) -> _Wanted:
        """Raises SettingsInvalid."""
        match = named_in(
            uri,
            _URI,
            hint="Write model-registry://name, or model-registry://name/version, whose version has letters, digits"
            " and . _ + - alone; the registry's address is spec.model.registry.url.",
        )
        return cls(match["name"], match["version"] or "")

    def ask(self, registry: ModelRegistry) -> tuple[ModelVersion, ModelArtifact]:
        """Ask the registry for the version and for its newest artifact that is a model."""
        model = registry.registered_model(self.name)
        version = registry.version(model, self.version) if self.version else registry.newest_version(model)
        return version, registry.artifact(model, version)
