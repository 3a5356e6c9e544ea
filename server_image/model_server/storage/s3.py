"""`s3://bucket/key`: one object, or all objects below a prefix.

Credentials and endpoint come from the standard names (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_CA_BUNDLE`, ...), from the identity of the ServiceAccount
(`AWS_ROLE_ARN` with `AWS_WEB_IDENTITY_TOKEN_FILE`, or EKS Pod Identity's `AWS_CONTAINER_CREDENTIALS_FULL_URI`) or the
instance where those are absent; `AWS_SKIP_SIGNATURE=true` is for public buckets. What KServe's Secrets say besides is
understood: `S3_ENDPOINT`, `S3_USE_HTTPS`, `S3_VERIFY_SSL`, `awsAnonymousCredential`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.store import S3Store

from model_server.errors import SettingsInvalid
from model_server.storage import objects
from model_server.storage.folder import Folder, unwritable
from model_server.storage.progress import Progress
from model_server.storage.uris import split_object_uri

if TYPE_CHECKING:
    from obstore.store import RetryConfig, S3Config


_OPTIONS = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
    "skip_signature": "AWS_SKIP_SIGNATURE",
    "virtual_hosted_style_request": "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "request_payer": "AWS_REQUEST_PAYER",
    "role_arn": "AWS_ROLE_ARN",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "endpoint_url_sts": "AWS_ENDPOINT_URL_STS",
    "container_credentials_full_uri": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "container_credentials_relative_uri": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "container_authorization_token_file": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}


_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the object or the prefix into `into`."""
    bucket, key = _split(uri)
    return objects.download(s3_store(bucket, environ), key, uri, into, progress)


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of the objects' names, sizes and ETags."""
    bucket, key = _split(uri)
    return objects.fingerprint(s3_store(bucket, environ), key, uri)


def folder(uri: str, environ: Mapping[str, str]) -> Folder:
    """A prefix of a bucket to write to."""
    bucket, prefix = split_object_uri(uri)
    if not bucket:
        raise unwritable(uri)
    return Folder(s3_store(bucket, environ, objects.RETRY), prefix, uri)


def _split(uri: str) -> tuple[str, str]:
    bucket, key = split_object_uri(uri)
    if not bucket or not key:
        raise SettingsInvalid(f"storageUri {uri!r} names no object", hint="Write s3://bucket/path/to/model")
    return bucket, key


def s3_store(bucket: str, environ: Mapping[str, str], retry: RetryConfig = objects.NO_RETRY) -> S3Store:
    """A bucket, with the credentials and the endpoint of the environment. Raises SettingsInvalid."""
    endpoint = _endpoint(environ)
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    config: S3Config = {"region": region}
    for option, name in _OPTIONS.items():
        if environ.get(name):
            config[option] = environ[name]  # type: ignore[literal-required]
    if _says(environ, "awsAnonymousCredential", default=False):
        config["skip_signature"] = True
    if endpoint:
        config["endpoint"] = endpoint
    options = objects.client_options(
        (endpoint,),
        verify=_says(environ, "S3_VERIFY_SSL", default=True),
        ca_file=environ.get("AWS_CA_BUNDLE"),
    )
    return S3Store(bucket, config=config, client_options=options, retry_config=retry)


def _endpoint(environ: Mapping[str, str]) -> str | None:
    given = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or environ.get("S3_ENDPOINT")
    if not given or "://" in given:
        return given
    scheme = "https" if _says(environ, "S3_USE_HTTPS", default=True) else "http"
    return f"{scheme}://{given}"


def _says(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A switch as KServe writes them. Raises SettingsInvalid for another word than yes or no."""
    word = environ.get(name, "").lower()
    if word and word not in _WORDS:
        raise SettingsInvalid(f"{name} is {environ[name]!r}", hint=f"Write one of {', '.join(_WORDS)}.")
    return _WORDS.get(word, default)
