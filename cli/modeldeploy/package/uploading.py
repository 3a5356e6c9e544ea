"""Uploads a package to where `storageUri` will read it: S3, Google and Azure storage, and folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from modeldeploy.requests import Refused

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

#: Where a machine of a cloud is asked for its identity: what a library asks last, for want of credentials.
_IDENTITY = re.compile(r"/latest/api/token|/latest/meta-data|/computeMetadata/|/metadata/identity")
#: What to set, by scheme. Profiles and sign-ins of the providers' own tools are not read.
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`aws configure export-credentials --format env` prints those "
    "of a profile), and AWS_ENDPOINT_URL for a server that is not Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, to the file of a service account's key",
    "az": "AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_TOKEN",
}
KNOWN = "s3://bucket/path, gs://bucket/path, az://account/container/path, file:///path"


def upload(folder: Path, files: Sequence[str], uri: str, environ: Mapping[str, str], *, replace: bool) -> None:
    """Put the files below the URI. Raises Refused for a URI that cannot be written to or is taken already."""
    store, prefix = open_store(uri, environ)
    try:
        taken = [meta["path"] for page in obstore.list(store, prefix=f"{prefix}/") for meta in page]
        if taken and not replace:
            raise Refused(
                f"{uri} holds {len(taken)} files already: give every version a path of its own, "
                "since servers may start from the old one; --force writes over it"
            )
        for name in files:
            obstore.put(store, f"{prefix}/{name}", folder / name)
        # A file of an older version would change the digest of the folder.
        stale = [path for path in taken if path.removeprefix(f"{prefix}/") not in files]
        if stale:
            obstore.delete(store, stale)
    except (BaseError, OSError) as error:
        raise Refused(f"{uri} cannot be written to: {_explained(error, uri)}") from None


def _explained(error: Exception, uri: str) -> str:
    """What the library says, and in place of a search for an identity that this machine has not, what to set."""
    line = next((one.strip() for one in str(error).splitlines() if one.strip()), type(error).__name__)
    wanted = _CREDENTIALS.get(uri.partition("://")[0], "")
    if _IDENTITY.search(line):
        return f"there are no credentials; set {wanted}"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or re.search(r"status code: 40[13]", line):
        return f"the storage refused the credentials; check {wanted}: they have to list and write there. It said {line}"
    return line


def open_store(uri: str, environ: Mapping[str, str]) -> tuple[ObjectStore, str]:
    """The store of a URI, with the environment's credentials, and the key in it. Raises Refused."""
    scheme, _, rest = uri.partition("://")
    # Every character of a key stands for itself: only files have addresses that are percent-encoded.
    place, _, key = rest.partition("/")
    key = (unquote(key) if scheme == "file" else key).strip("/")
    if key and scheme in ("s3", "gs", "az") and not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise Refused(f"{uri!r} has an empty segment, `.` or `..` in its key; known are {KNOWN}")
    plain: ClientConfig = {"allow_http": True}
    match scheme:
        case "file" if not place and key:
            return LocalStore("/"), key
        case "s3" if place and key:
            endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
            options = plain if endpoint.startswith("http://") else None
            region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            if endpoint:
                return S3Store(place, endpoint=endpoint, region=region, client_options=options), key
            return S3Store(place, region=region), key
        case "gs" if place and key:
            return GCSStore(place), key
        case "az" if place and "/" in key:
            container, _, below = key.partition("/")
            return AzureStore(container, account_name=place), below
    raise Refused(f"{uri!r} is no place to upload to; known are {KNOWN}")
