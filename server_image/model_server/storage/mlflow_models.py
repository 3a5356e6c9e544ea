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

from model_server.errors import ArtifactNotFound, SettingsInvalid, StorageUnavailable
from model_server.storage import find_source
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.mlflow_api import ModelVersion, Tracking
from model_server.storage.mlflow_artifacts import proxied_path, read_artifacts
from model_server.storage.progress import Progress

# The names that MLflow allows.
_URI = re.compile(r"models:/(?P<name>[^/:@]+)(@(?P<alias>[-_a-zA-Z0-9]+)|/(?P<version>[1-9][0-9]{0,17}))")
#: Where a version's files may lie besides the tracking server: never on the disk of this pod.
_SCHEMES = ("s3", "gs", "az", "https", "hf", "oci")
_AZURE = re.compile(r"(?:wasbs|abfss)://(?P<container>[^/@]+)@(?P<account>[a-z0-9]+)\.(?:blob|dfs)\.[^/]+/(?P<key>.+)")


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
    address = stored_at(location, uri)
    fetched = find_source(address).fetch(address, into / "download", environ=environ, progress=progress)
    if fetched.is_dir():
        return fetched.rename(root)
    root.mkdir(parents=True)
    fetched.rename(root / fetched.name)
    return root


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
        match = _URI.fullmatch(uri)
        if match is None:
            raise SettingsInvalid(
                f"storageUri {uri!r} names no version of a registered model",
                hint="Write models:/name@alias, or models:/name/7. Set an alias in place of a stage or `latest`.",
            )
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


def stored_at(location: str, uri: str) -> str:
    """The storage URI of a version's files. Raises SettingsInvalid for a place that no source reads."""
    if match := _AZURE.fullmatch(location):
        return f"az://{match['account']}/{match['container']}/{match['key']}"
    if location.partition("://")[0] in _SCHEMES:
        return location
    where = location.partition(":")[0][:32] or "nowhere"
    raise SettingsInvalid(
        f"{uri}: the registry keeps this version at {where}:, which no other machine can read",
        hint="Start `mlflow server` with --serve-artifacts (its default), or with a bucket as --default-artifact-root;"
        f" known are mlflow-artifacts:, wasbs:, abfss: and {', '.join(f'{one}:' for one in _SCHEMES)}.",
    )
