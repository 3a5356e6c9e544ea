"""`gs://bucket/key`: one object, or all objects below a prefix.

Credentials: a service account's file, from `GOOGLE_APPLICATION_CREDENTIALS` or, as KServe's Secrets have
it, `gcloud-application-credentials.json` in the credentials folder; else the workload's identity, which the metadata
server tells (`GCE_METADATA_HOST` names another one, as for Google's own clients).
`GOOGLE_SKIP_SIGNATURE=true` reads public buckets, `STORAGE_EMULATOR_HOST` names another server, as for Google's
own clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import GCSStore

from model_server.errors import SettingsInvalid
from model_server.storage import objects
from model_server.storage.folder import Folder, unwritable
from model_server.storage.progress import Progress
from model_server.storage.uris import split_object_uri

if TYPE_CHECKING:
    from obstore.store import GCSConfig, RetryConfig

_SECRET_FILE = "gcloud-application-credentials.json"  # noqa: S105 - a file's name


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the object or the prefix into `into`."""
    bucket, key = _split(uri)
    return objects.download(gcs_store(bucket, environ), key, uri, into, progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of the objects' names, sizes and ETags."""
    bucket, key = _split(uri)
    return objects.fingerprint(gcs_store(bucket, environ), key, uri)


def folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A prefix of a bucket to write to."""
    bucket, prefix = split_object_uri(uri)
    if not bucket:
        raise unwritable(uri)
    return Folder(gcs_store(bucket, environ, objects.RETRY), prefix, uri)


def _split(uri: str) -> tuple[str, str]:
    bucket, key = split_object_uri(uri)
    if not bucket or not key:
        raise SettingsInvalid(f"storageUri {uri!r} names no object", hint="Write gs://bucket/path/to/model")
    return bucket, key


def gcs_store(bucket: str, environ: Mapping[str, str], retry: RetryConfig = objects.NO_RETRY) -> GCSStore:
    """A bucket, with the credentials and the endpoint of the environment."""
    config: GCSConfig = {}
    mounted = Path(environ.get("MODEL_SERVER_CREDENTIALS_DIR", "/nonexistent")) / _SECRET_FILE
    credentials = environ.get("GOOGLE_APPLICATION_CREDENTIALS") or (str(mounted) if mounted.is_file() else "")
    if credentials:
        config["application_credentials"] = credentials
    emulator = environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if emulator:
        emulator = emulator if "://" in emulator else f"http://{emulator}"
        config["base_url"] = emulator
    is_public = environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() == "true"
    # An emulator needs no credentials, unless a metadata server is named: then its identity is used.
    if is_public or (emulator and not credentials and not environ.get("GCE_METADATA_HOST")):
        config["skip_signature"] = True
    options = objects.client_options((emulator,))
    return GCSStore(bucket, config=config, client_options=options, retry_config=retry)
