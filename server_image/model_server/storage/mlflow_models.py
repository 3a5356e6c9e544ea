"""`models:/name@alias` and `models:/name/version`: a version of a model in MLflow's registry.

The registry is the tracking server at `MLFLOW_TRACKING_URI`, with `MLFLOW_TRACKING_USERNAME` and
`MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`. An alias is resolved once for a download, so that all files are
of one version. https://mlflow.org/docs/latest/ml/model-registry/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_server.errors import ArtifactNotFound, StorageUnavailable
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.mlflow_api import ModelVersion, Tracking
from model_server.storage.mlflow_artifacts import proxied_path, read_artifacts
from model_server.storage.progress import Progress
from model_server.storage.registered_files import fetch_version, named_in, stored_at

# The names that MLflow allows.
_URI = re.compile(r"models:/(?P<name>[^/:@]+)(@(?P<alias>[-_a-zA-Z0-9]+)|/(?P<version>[1-9][0-9]{0,17}))")
_HINT = "Start `mlflow server` with --serve-artifacts (its default), or with a bucket as --default-artifact-root"


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the files of a version into a folder that is named by its number."""
    tracking, wanted = Tracking.of(environ), _Wanted.of(uri)
    found = _ready(wanted.ask(tracking), uri)
    root = into / str(found.number)
    location = tracking.location(wanted.name, found.number)
    path = proxied_path(location, tracking.url)
    if path is not None:
        read_artifacts(tracking, path, root, uri, progress)
        return root
    return fetch_version(stored_at(location, uri, hint=_HINT), root, environ=environ, progress=progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """The version's number, and what tells it from another one of this number: its run, source and time.

    What people write on a version later, such as a description or tags, makes no other model of it.
    """
    found = _ready(_Wanted.of(uri).ask(Tracking.of(environ)), uri)
    return f"{found.number}-{fingerprint_of((found.source, found.run_id, found.creation_timestamp))}"


def version_of(fetched: Path) -> str:
    """The number of the version in a folder that `fetch` returned, or in a copy of it."""
    return fetched.name


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a URI names: one of `alias` and `version` is set."""

    name: str
    alias: str
    version: int

    @classmethod
    def of(cls, uri: str) -> _Wanted:
        """Raises SettingsInvalid."""
        hint = "Write models:/name@alias, or models:/name/7. Set an alias in place of a stage or `latest`."
        match = named_in(uri, _URI, hint=hint)
        return cls(match["name"], match["alias"] or "", int(match["version"] or 0))

    def ask(self, tracking: Tracking) -> ModelVersion:
        """Ask the registry for the version."""
        if not self.alias:
            return tracking.version(self.name, self.version)
        return tracking.version_with_alias(self.name, self.alias)


def _ready(found: ModelVersion, uri: str) -> ModelVersion:
    if found.status == "READY":
        return found
    message = f"{uri}: version {found.number} is {found.status}"
    if found.status == "PENDING_REGISTRATION":
        raise StorageUnavailable(message, hint="Its upload has not ended; the server looks again when it is restarted.")
    raise ArtifactNotFound(message, hint="Its registration failed: register the model again.")
