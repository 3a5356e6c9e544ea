"""Requests to web servers: the transport of `https://`, `hf://` and `oci://`, and documents of their APIs.

Redirects never lead from https to http, and a credential goes to no other host than the one it is for. Proxies are
those of the environment; `NO_PROXY` may hold networks. https://www.rfc-editor.org/rfc/rfc9110 (ranges: section 14)
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import IO
from urllib.parse import urlsplit

from model_server.errors import (
    ArtifactAccessDenied,
    ArtifactNotFound,
    ArtifactNotTrusted,
    ArtifactTooLarge,
    StartError,
    StorageUnavailable,
    first_line,
)
from model_server.storage.authorities import CA_FILE, ssl_context
from model_server.storage.failures import lasting, unreadable
from model_server.storage.redaction import redacted
from model_server.storage.transfer import Content, replaced, with_attempts

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 20
MOST_BYTES = 16 * 2**20
#: Statuses of a server that may answer otherwise a moment later, besides 5xx.
_PASSING = (408, 425, 429)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebTransport:
    """Reads files of web servers. `headers` are sent to the address itself, and not to where it redirects."""

    headers: Mapping[str, str] = field(default_factory=dict)

    def open(self, address: str, start: int, end: int | None, version: str) -> Content:
        """Send one request: for a range, or for the whole file where ranges of it cannot be put together."""
        is_range = end is not None or start > 0
        request = _request(address, self.headers)
        if is_range:
            request.add_header("range", f"bytes={start}-{'' if end is None else end - 1}")
        if version:
            request.add_header("if-match" if version.startswith('"') else "if-unmodified-since", version)
        try:
            response = _send(request)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and not start and is_range:
                # No range of a file without bytes can be asked for.
                return self.open(address, 0, None, version)
            if error.code == 412:
                raise replaced(redacted(address)) from None
            raise _refusal(address, error) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreadable(redacted(address), _reason(error)) from None
        content = _content(address, response)
        if content.is_range and (content.size is None or not content.version) and not start:
            content.close()
            return self.open(address, 0, None, version)
        return content


def _content(address: str, response: http.client.HTTPResponse) -> Content:
    headers = response.headers
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("content-range", "").strip())
    is_range = response.status == 206 and found is not None
    total = found[2] if found and is_range else headers.get("content-length", "")
    return Content(
        start=int(found[1]) if found and is_range else 0,
        size=int(total) if total.isdigit() else None,
        version=_version(headers),
        is_range=is_range,
        chunks=_chunks(address, response),
        close=response.close,
    )


def _version(headers: Message) -> str:
    """What a further request can be held to: a strong ETag, or else the time of the last change."""
    etag = headers.get("etag", "")
    return etag if etag.startswith('"') else headers.get("last-modified", "")


def _chunks(address: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise unreadable(redacted(address), _reason(error)) from None


@dataclass(frozen=True, slots=True)
class Answer:
    """A small document from a web server."""

    status: int
    headers: Message
    body: bytes


def ask(
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    accept: Collection[int] = (),
    most_bytes: int = MOST_BYTES,
    range_: str = "",
) -> Answer:
    """Read a document. Statuses in `accept` are answers, others StartErrors; `range_` asks for a part, as in 0-0."""

    def send() -> Answer:
        request = _request(address, headers or {})
        if range_:
            request.add_header("range", f"bytes={range_}")
        try:
            with _send(request) as response:
                # Of a server without ranges the head is enough.
                body = b"" if range_ else response.read(most_bytes + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in accept:
                return Answer(error.code, error.headers, b"")
            raise _refusal(address, error) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreadable(redacted(address), _reason(error)) from None
        if len(body) > most_bytes:
            raise ArtifactTooLarge(
                f"{redacted(address)} answered with more than {most_bytes} bytes",
                hint="A manifest or a listing is never so large: check the address.",
            )
        return Answer(response.status, response.headers, body)

    return with_attempts(send)


def _request(address: str, headers: Mapping[str, str]) -> urllib.request.Request:
    request = urllib.request.Request(address, headers={"accept-encoding": "identity"})  # noqa: S310 - http(s) only
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    return request


def _send(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Send a request; trusts the authorities of the system, and those of MODEL_SERVER_CA_FILE.

    Raises:
        ArtifactNotTrusted: an https address redirects to http.
    """
    secure = urllib.request.HTTPSHandler(context=ssl_context(os.environ.get(CA_FILE, "")))
    opener = urllib.request.build_opener(secure, _Redirects, _Proxies)
    response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    return response


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


class _Proxies(urllib.request.ProxyHandler):
    """The proxies of the environment, but for addresses in a network of NO_PROXY, which urllib does not read."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> object:  # noqa: A002 - urllib's name
        """Let a request go directly, or through its proxy."""
        networks = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if is_in_networks(urlsplit(f"//{req.host}").hostname or "", networks):
            return None
        return super().proxy_open(req, proxy, type)


def is_in_networks(host: str, networks: str) -> bool:
    """Whether a host is an address in one of the networks, which are separated by commas; names are in none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for text in networks.split(","):
        try:
            if address in ipaddress.ip_network(text.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def _refusal(address: str, error: urllib.error.HTTPError) -> StartError:
    where = redacted(address)
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
    failure = StorageUnavailable(f"{where} answered {error.code}")
    return failure if error.code >= 500 or error.code in _PASSING else lasting(failure)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or "") or first_line(error) or type(error).__name__
