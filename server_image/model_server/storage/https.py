"""`https://` and `http://`: one file from a web server, resumed after a cut when the server can.

Signed URLs of any object store work as well; query strings never reach a log or an error. The schemes that are
made of web requests (`huggingface.py`, `oci.py`) use `ask` and `download`: the same attempts and waits.
"""

from __future__ import annotations

import http.client
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactEmpty,
    ArtifactNotFound,
    ArtifactNotTrusted,
    ArtifactTooLarge,
    SettingsInvalid,
    StartError,
    StorageUnavailable,
)
from model_server.storage import Source
from model_server.storage.authorities import CA_FILE, ssl_context
from model_server.storage.failures import disk_failure, hint_for, is_lasting, is_of_disk
from model_server.storage.fingerprints import fingerprint_of
from model_server.storage.progress import Progress
from model_server.storage.redaction import redacted

ATTEMPTS = 6
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
MOST_BYTES = 16 * 2**20


def fetch(uri: str, into: Path, *, environ: Mapping[str, str], progress: Progress) -> Path:
    """Download the file. A cut is answered with another request for the rest, if the file has not changed."""
    if azure := _azure(uri, environ):
        return azure.fetch(uri, into, environ=environ, progress=progress)
    target = into / _name(uri)
    if not download(uri, target, progress):
        target.unlink()
        raise ArtifactEmpty(f"{redacted(uri)} has no bytes")
    return target


def fingerprint(uri: str, *, environ: Mapping[str, str]) -> str:
    """Made of ETag, time and size. One byte is asked for: signed URLs and some servers know no HEAD."""
    if azure := _azure(uri, environ):
        return azure.fingerprint(uri, environ=environ)
    _name(uri)
    request = _request(uri, {})
    request.add_header("range", "bytes=0-0")
    try:
        with _open(request) as response:
            headers = response.headers
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(uri, error) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreadable(uri, error) from None
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


def download(uri: str, target: Path, progress: Progress, *, headers: Mapping[str, str] | None = None) -> int:
    """Bring a file to `target`, which exists only when it is whole; its size in bytes.

    `headers` are not repeated to a server that the first one redirects to: they may hold a credential.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    way = _Download(uri, target.with_name(f"{target.name}.partial"), progress, headers or {})
    for last in _attempts():
        if way.attempt(last=last):
            break
    way.partial.rename(target)
    return way.size


@dataclass(frozen=True, slots=True)
class Answer:
    """A small document from a web server."""

    status: int
    headers: Message
    body: bytes


def ask(
    uri: str, *, headers: Mapping[str, str] | None = None, accept: Collection[int] = (), most_bytes: int = MOST_BYTES
) -> Answer:
    """Read a document. Statuses in `accept` are answers, other failures StartErrors."""
    for last in _attempts():
        try:
            with _open(_request(uri, headers or {})) as response:
                body = response.read(most_bytes + 1)
                if len(body) > most_bytes:
                    raise ArtifactTooLarge(
                        f"{redacted(uri)} answered with more than {most_bytes} bytes",
                        hint="A manifest or a listing is never so large: check the address.",
                    )
                return Answer(response.status, response.headers, body)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in accept:
                return Answer(error.code, error.headers, b"")
            failure = _refusal(uri, error)
            if last or not isinstance(failure, StorageUnavailable):
                raise failure from None
        except (OSError, http.client.HTTPException) as error:
            if last or is_lasting(_reason(error)):
                raise _unreadable(uri, error) from None
    raise AssertionError("the last attempt returns or raises")


def _attempts() -> Iterator[bool]:
    """One turn an attempt, with waits between them; True for the last."""
    for attempt in range(ATTEMPTS):
        if attempt:
            # Half of the wait is random, so that many pods do not come back together.
            time.sleep(min(0.2 * 2**attempt, 5) * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        yield attempt == ATTEMPTS - 1


def _request(uri: str, headers: Mapping[str, str]) -> urllib.request.Request:
    request = urllib.request.Request(uri, headers={"accept-encoding": "identity"})  # noqa: S310 - http(s) only
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none from https to http: what an unpinned model is could then be changed on the way."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            fp.close()
            raise ArtifactNotTrusted(
                f"{redacted(req.full_url)} redirects to {redacted(newurl)}, which is not encrypted",
                hint="Write an https:// address that stays one; http:// only where the URI itself says so.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Send a request; trusts the authorities of the system, and those of MODEL_SERVER_CA_FILE.

    Raises:
        ArtifactNotTrusted: an https address redirects to http.
    """
    secure = urllib.request.HTTPSHandler(context=ssl_context(os.environ.get(CA_FILE, "")))
    response: http.client.HTTPResponse = urllib.request.build_opener(secure, _Redirects).open(
        request, timeout=TIMEOUT_SECONDS
    )
    return response


def _unreadable(uri: str, error: BaseException) -> StorageUnavailable:
    reason = _reason(error)
    return StorageUnavailable(f"{redacted(uri)} could not be read: {reason}", hint=hint_for(reason))


class _Download:
    """One file on its way: what is there already, and what would make a continuation wrong."""

    def __init__(self, uri: str, partial: Path, progress: Progress, headers: Mapping[str, str]) -> None:
        self._uri = uri
        self._headers = headers
        self.partial = partial
        self._progress = progress
        self._mark = ""
        self._expected: int | None = None
        self.size = 0

    def attempt(self, *, last: bool) -> bool:
        """Try to get the rest. True when the file is whole; raises when trying again is of no use."""
        try:
            with self._open() as response:
                self._begin(response)
                self._copy(response)
        except urllib.error.HTTPError as error:
            error.close()
            failure = _refusal(self._uri, error)
            if last or not isinstance(failure, StorageUnavailable):
                raise failure from None
            return False
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and is_of_disk(error):
                raise disk_failure(error, redacted(self._uri), self.partial.parent) from None
            if last or is_lasting(_reason(error)):
                raise _unreadable(self._uri, error) from None
            return False
        if self._expected is not None and self.size < self._expected:
            if last:
                raise StorageUnavailable(f"{redacted(self._uri)} broke off after {self.size} of {self._expected} bytes")
            return False
        return True

    def _open(self) -> http.client.HTTPResponse:
        request = _request(self._uri, self._headers)
        if self.size and self._mark:
            request.add_header("range", f"bytes={self.size}-")
            # The server sends the whole file instead when it is no longer the same.
            request.add_header("if-range", self._mark)
        return _open(request)

    def _begin(self, response: http.client.HTTPResponse) -> None:
        if response.status != 206:
            self.size = 0
            length = response.headers.get("content-length")
            known = self._expected
            self._expected = int(length) if length and length.isdigit() else None
            if self._expected is not None and known is None:
                self._progress.expect(self._expected)
        mark = response.headers.get("etag") or response.headers.get("last-modified") or ""
        self._mark = "" if mark.startswith("W/") else mark

    def _copy(self, response: http.client.HTTPResponse) -> None:
        with self.partial.open("r+b" if self.size else "wb") as file:
            file.seek(self.size)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                self.size += len(chunk)
                self._progress.advance(len(chunk))
            file.truncate()


def _refusal(uri: str, error: urllib.error.HTTPError) -> StartError:
    where = redacted(uri)
    if error.code in (404, 410):
        return ArtifactNotFound(f"{where} does not exist")
    if error.code in (401, 403):
        return ArtifactAccessDenied(
            f"{where} was refused with {error.code}", hint="Check that the link is public or its signature still valid."
        )
    if error.code in range(300, 400):
        return ArtifactNotFound(
            f"{where} redirects without end", hint="Open the link in a browser and use the final one."
        )
    return StorageUnavailable(f"{where} answered {error.code}")


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__
