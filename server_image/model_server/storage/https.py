"""`https://` and `http://`: one file from a web server.

Signed URLs of any object store work as well; query strings never reach a log or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from model_server.errors import SettingsInvalid
from model_server.storage import Source
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress
from model_server.storage.redaction import redacted
from model_server.storage.transfer import RemoteFile, download
from model_server.storage.web import WebTransport, ask


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the file."""
    if azure := _azure(uri, environ):
        return azure.fetch(uri, into, environ=environ, progress=progress)
    target = into / _name(uri)
    download(WebTransport(), [RemoteFile(address=uri)], target, redacted(uri), progress)
    return target


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of ETag, time and size. One byte is asked for: signed URLs and some servers know no HEAD."""
    if azure := _azure(uri, environ):
        return azure.fingerprint(uri, environ=environ)
    _name(uri)
    headers = ask(uri, range_="0-0").headers
    size = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length")
    return fingerprint_of((headers.get("etag"), headers.get("last-modified"), size))


def _azure(uri: str, environ: Mapping[str, str]) -> Source | None:
    """A blob URL is Azure's when there are credentials for it; without them it is a plain web address."""
    if not any(name.startswith("AZURE_") for name in environ):
        return None
    from model_server.storage import azure

    return azure if azure.BLOB_HOST.match(uri) else None


def _name(uri: str) -> str:
    parts = urlsplit(uri)
    name = PurePosixPath(unquote(parts.path)).name
    if "@" in parts.netloc:
        raise SettingsInvalid(
            f"storageUri {redacted(uri)!r} holds a user or a password, which are not sent",
            hint="Use a signed URL, or a store whose credentials come from a Secret.",
        )
    if not parts.netloc or name in ("", "..") or "\0" in name:
        raise SettingsInvalid(f"storageUri {redacted(uri)!r} names no file", hint="Write https://host/path/model.onnx")
    return name
