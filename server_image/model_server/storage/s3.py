"""`s3://bucket/key`: one object, or all objects below a prefix.

Credentials and endpoint come from the standard names (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, ...), the instance's or the ServiceAccount's
identity where those are absent, and `AWS_SKIP_SIGNATURE=true` for public buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.store import S3Store

from model_server.errors import SettingsInvalid
from model_server.storage import objects
from model_server.storage.progress import Progress

if TYPE_CHECKING:
    from obstore.store import S3Config


_OPTIONS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "skip_signature": "AWS_SKIP_SIGNATURE",
    "virtual_hosted_style_request": "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "request_payer": "AWS_REQUEST_PAYER",
}


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the object or the prefix into `into`."""
    bucket, key = _split(uri)
    return objects.download(s3_store(bucket, environ), key, uri, into, progress)


def mark(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of the objects' names, sizes and ETags."""
    bucket, key = _split(uri)
    return objects.mark(s3_store(bucket, environ), key, uri)


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    key = unquote(parts.path).strip("/")
    if not parts.netloc or not key:
        raise SettingsInvalid(f"storageUri {uri!r} names no object", hint="Write s3://bucket/path/to/model")
    return parts.netloc, key


def s3_store(bucket: str, environ: Mapping[str, str]) -> S3Store:
    """A bucket, with the credentials and the endpoint of the environment."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    plain = endpoint is not None and endpoint.startswith("http://")
    config: S3Config = {"region": region}
    for option, name in _OPTIONS.items():
        if environ.get(name):
            config[option] = environ[name]  # type: ignore[literal-required]
    if endpoint:
        config["endpoint"] = endpoint
    return S3Store(
        bucket,
        config=config,
        client_options=objects.client_options(allow_http=plain),
        retry_config=objects.RETRY,
    )
