"""Uploads a package to where `storageUri` will read it: S3, Google and Azure storage, and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from modeldeploy.requests import Refused

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

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
        line = next((one.strip() for one in str(error).splitlines() if one.strip()), type(error).__name__)
        raise Refused(f"{uri} cannot be written to: {line}") from None


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
