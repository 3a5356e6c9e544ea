"""One repository of a registry: manifests and blobs, read and written by a few web requests (OCI distribution).

A client of our own: `oras`, the library for Python, reads what it uploads into memory, waits for minutes before it
reports an error, and sends passwords to whatever address a registry names.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from modeldeploy.baking.auth import RegistryAuth
from modeldeploy.baking.image import ACCEPTED, Blob
from modeldeploy.baking.reference import Image
from modeldeploy.requests import Refused

#: The largest manifest that registries have to take, and configs are of the same kind.
MOST_BYTES = 4 * 2**20
_TIMEOUT = httpx.Timeout(60, connect=15)
#: Seconds before each further attempt at what may be otherwise a moment later.
_PAUSES = (0.5, 2.0)
_PASSING = (429, 500, 502, 503, 504)
Content = Callable[[], Iterator[bytes]]
T = TypeVar("T")


class _Passing(Refused):
    """A registry limits requests, restarts, or broke off a connection."""


def _patiently(attempt: Callable[[], T]) -> T:
    for pause in _PAUSES:
        try:
            return attempt()
        except _Passing:
            time.sleep(pause)
    return attempt()


class Repository:
    """A repository; close it, or use it as a context manager."""

    def __init__(self, image: Image, credentials: tuple[str, str], *, plain_http: bool) -> None:
        self.image = image
        scheme = "http" if plain_http or image.is_on_loopback else "https"
        self._base = f"{scheme}://{image.host}/v2/{image.repository}"
        self._client = httpx.Client(
            auth=RegistryAuth(httpx.URL(self._base), credentials),
            timeout=_TIMEOUT,
            follow_redirects=True,
            # Blobs are compared with their digests as they are stored.
            headers={"accept-encoding": "identity"},
            event_hooks={"request": [_only_encrypted] if scheme == "https" else []},
        )

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self, reference: str) -> Blob | None:
        """The manifest of a tag or digest, None when there is none.

        Raises:
            Refused: the registry refuses it or does not answer, or what it sends has another digest.
        """
        return _patiently(lambda: self._manifest(reference))

    def _manifest(self, reference: str) -> Blob | None:
        with self._asked("GET", f"/manifests/{reference}", headers={"accept": ACCEPTED}) as response:
            if response.status_code == 404:
                return None
            self._expect(response, 200)
            content = self._small(response)
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        found = Blob(media_type=media_type, content=content)
        if reference.startswith("sha256:") and found.digest != reference:
            raise Refused(f"{self.image.host} answers with another manifest than {reference}")
        return found

    def put_manifest(self, reference: str, manifest: Blob) -> httpx.Headers:
        """Store a manifest under a tag or its digest; returns the headers of the answer. Raises Refused."""
        return _patiently(lambda: self._put_manifest(reference, manifest))

    def _put_manifest(self, reference: str, manifest: Blob) -> httpx.Headers:
        headers = {"content-type": manifest.media_type}
        with self._asked("PUT", f"/manifests/{reference}", headers=headers, content=manifest.content) as response:
            self._expect(response, 201)
            return response.headers

    def document(self, digest: str) -> bytes:
        """A small blob. Raises Refused, also when it has another digest."""
        content = _patiently(lambda: self._document(digest))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise Refused(f"{self.image.host} answers with another blob than {digest}")
        return content

    def _document(self, digest: str) -> bytes:
        with self._asked("GET", f"/blobs/{digest}") as response:
            self._expect(response, 200)
            return self._small(response)

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """The content of a blob, in chunks. Raises Refused when it has another size or digest, at its end."""
        seen, hashed = 0, hashlib.sha256()
        with self._asked("GET", f"/blobs/{digest}") as response:
            self._expect(response, 200)
            for chunk in response.iter_raw(2**20):
                seen += len(chunk)
                hashed.update(chunk)
                if seen > size:
                    break
                yield chunk
        if seen != size or f"sha256:{hashed.hexdigest()}" != digest:
            raise Refused(f"{self.image.host} sends another blob than {digest}")

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob. Raises Refused."""
        with self._asked("HEAD", f"/blobs/{digest}") as response:
            if response.status_code != 404:
                self._expect(response, 200)
            return response.status_code == 200

    def put_blob(self, digest: str, size: int, content: Content, *, mount_from: str = "") -> None:
        """Store a blob unless the repository has it.

        Args:
            content: called for the bytes, if they are needed.
            mount_from: another repository of the same registry that has the blob.

        Raises:
            Refused: the registry refuses it, or the content is another one.
        """
        _patiently(lambda: self._put_blob(digest, size, content, mount_from))

    def _put_blob(self, digest: str, size: int, content: Content, mount_from: str) -> None:
        if self.has_blob(digest):
            return
        query = f"?mount={digest}&from={mount_from}" if mount_from else ""
        with self._asked("POST", f"/blobs/uploads/{query}", content=b"") as response:
            if response.status_code == 201 and mount_from:
                return
            self._expect(response, 202)
            location = httpx.URL(urljoin(str(response.url), response.headers.get("location", "")))
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        where = location.copy_merge_params({"digest": digest})
        with self._asked("PUT", str(where), headers=headers, content=content()) as response:
            self._expect(response, 201)

    def put_document(self, document: Blob) -> None:
        """Store a small blob. Raises Refused."""
        self.put_blob(document.digest, len(document.content), lambda: iter([document.content]))

    @contextmanager
    def _asked(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        address = path if path.startswith("http") else f"{self._base}{path}"
        # Only what is read may be somewhere else, as in a store behind the registry.
        redirects = method in ("GET", "HEAD")
        try:
            with self._client.stream(method, address, follow_redirects=redirects, **more) as response:
                yield response
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadTimeout) as error:
            raise _Passing(f"{self.image.host} broke off a connection: {error or type(error).__name__}") from None
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            hint = "" if self._base.startswith("http:") else ". A registry without TLS needs --plain-http"
            raise Refused(f"{self.image.host} cannot be reached: {why}{hint if 'SSL' in why.upper() else ''}") from None

    def _expect(self, response: httpx.Response, status: int) -> None:
        if response.status_code == status:
            return
        asked = f"{response.request.method} {self.image.name}"
        if response.status_code in (401, 403):
            raise Refused(
                f"{self.image.host} refuses {asked} with {response.status_code}: sign in with `docker login"
                f" {self.image.host}`, as a user with access to {self.image.repository}"
            )
        kind = _Passing if response.status_code in _PASSING else Refused
        raise kind(f"{self.image.host} answers {asked} with {response.status_code}{_told(response)}")

    def _small(self, response: httpx.Response) -> bytes:
        content = b""
        for chunk in response.iter_bytes(2**16):
            content += chunk
            if len(content) > MOST_BYTES:
                raise Refused(f"{self.image.host} sends a document of more than {MOST_BYTES} bytes: this is no image")
        return content


def _told(response: httpx.Response) -> str:
    """What the registry says against a request, as the specification has it; "" where it says nothing."""
    try:
        text = next(response.iter_bytes(4096), b"")
        errors = httpx.Response(200, content=text).json()["errors"]
        return ": " + "; ".join(f"{one['code']} {one.get('message', '')}".strip() for one in errors[:3])
    except (ValueError, KeyError, TypeError, IndexError, httpx.HTTPError):
        return ""


def _only_encrypted(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise Refused(f"the registry leads to {request.url.host} without TLS: use one that stays on https://")
