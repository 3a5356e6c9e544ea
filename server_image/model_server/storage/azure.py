"""`az://account/container/key`, and blob URLs as the portal shows them.

Credentials: `AZURE_STORAGE_ACCOUNT_KEY` (KServe: `AZURE_STORAGE_ACCESS_KEY`), `AZURE_STORAGE_SAS_TOKEN`, or a
service principal in `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET` and `AZURE_TENANT_ID`; else the workload's
identity. `AZURE_SKIP_SIGNATURE=true` reads public containers, `AZURE_STORAGE_ENDPOINT` names an emulator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.store import AzureStore

from model_server.errors import SettingsInvalid
from model_server.storage import objects
from model_server.storage.folder import Folder, unwritable
from model_server.storage.progress import Progress
from model_server.storage.uris import split_object_uri

if TYPE_CHECKING:
    from obstore.store import AzureConfig, RetryConfig

BLOB_HOST = re.compile(r"^https://(?P<account>[a-z0-9]+)\.(blob|dfs)\.core\.windows\.net/")
_OPTIONS = {
    "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
    "client_id": ("AZURE_CLIENT_ID", "AZ_CLIENT_ID"),
    "client_secret": ("AZURE_CLIENT_SECRET", "AZ_CLIENT_SECRET"),
    "tenant_id": ("AZURE_TENANT_ID", "AZ_TENANT_ID"),
    "federated_token_file": ("AZURE_FEDERATED_TOKEN_FILE",),
    "authority_host": ("AZURE_AUTHORITY_HOST",),
    "skip_signature": ("AZURE_SKIP_SIGNATURE",),
    "endpoint": ("AZURE_STORAGE_ENDPOINT",),
}


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the blob or the prefix into `into`."""
    account, container, key = split(uri)
    return objects.download(azure_store(account, container, environ), key, uri, into, progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of the blobs' names, sizes and ETags."""
    account, container, key = split(uri)
    return objects.fingerprint(azure_store(account, container, environ), key, uri)


def folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A prefix of a container to write to."""
    account, path = split_object_uri(uri)
    container, _, prefix = path.partition("/")
    if not account or not container:
        raise unwritable(uri)
    return Folder(azure_store(account, container, environ, objects.RETRY), prefix, uri)


def split(uri: str) -> tuple[str, str, str]:
    """Account, container and key. Raises SettingsInvalid when one is missing."""
    if match := BLOB_HOST.match(uri):
        # A web address, and so percent-encoded.
        account, path = match["account"], unquote(urlsplit(uri).path).strip("/")
    else:
        account, path = split_object_uri(uri)
    container, _, key = path.partition("/")
    if not account or not container or not key:
        raise SettingsInvalid(f"storageUri {uri!r} names no blob", hint="Write az://account/container/path/to/model")
    return account, container, key


def azure_store(
    account: str, container: str, environ: Mapping[str, str], retry: RetryConfig = objects.NO_RETRY
) -> AzureStore:
    """A container, with the credentials and the endpoint of the environment."""
    config: AzureConfig = {"account_name": account}
    for option, names in _OPTIONS.items():
        value = next((environ[name] for name in names if environ.get(name)), None)
        if value is not None:
            config[option] = value  # type: ignore[literal-required]
    options = objects.client_options((environ.get("AZURE_STORAGE_ENDPOINT"), environ.get("AZURE_AUTHORITY_HOST")))
    return AzureStore(container, config=config, client_options=options, retry_config=retry)
