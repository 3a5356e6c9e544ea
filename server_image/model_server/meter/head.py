"""Heads of messages as they are passed on: without the fields of one connection. Pure, and on the hot path."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

#: Fields of one connection (RFC 9110, 7.6.1), and those that the meter writes itself.
_OF_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"x-request-id",
    }
)
#: Where an API key of ours stands: the server behind has no business with it.
KEYS = frozenset({b"authorization", b"x-api-key"})
_PLAIN = frozenset({b"keep-alive", b"close"})
#: What `Connection` cannot take off a message: its framing and address, and what proxies in front say of the client.
#: Without its length, a body would be the next request to the server behind.
_NOT_OF_CONNECTION = frozenset(
    {b"content-length", b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)

Fields = Sequence[tuple[bytes, bytes]]


def dropped_fields(fields: Fields, *, has_keys: bool) -> frozenset[bytes]:
    """The names of fields that are not passed on; `has_keys`: API keys are ours, and stay here."""
    dropped = _OF_CONNECTION | KEYS if has_keys else _OF_CONNECTION
    for name, value in fields:
        if name == b"connection" and value.lower() not in _PLAIN:
            dropped = dropped | ({word.strip().lower() for word in value.split(b",")} - _NOT_OF_CONNECTION)
    return dropped


def plain_path(target: bytes) -> bytes:
    """The path that a server may take a target for: percent-decoded, without empty segments and dots."""
    path = target.partition(b"?")[0]
    if not (b"%" in path or b"//" in path or b"/." in path):
        return path
    plain = posixpath.normpath(b"/" + unquote_to_bytes(path).lstrip(b"/"))
    return plain + b"/" if path.endswith(b"/") and plain != b"/" else plain


def without_offer(fields: Fields) -> Iterator[tuple[bytes, bytes]]:
    """Yield the fields without the offer of another protocol (RFC 9110, 7.8)."""
    for name, value in fields:
        if name == b"connection":
            yield name, b", ".join(word for word in map(bytes.strip, value.split(b",")) if word.lower() != b"upgrade")
        elif name not in (b"upgrade", b"http2-settings"):
            yield name, value


def request_head(
    method: bytes, target: bytes, fields: Fields, identifier: bytes, *, chunked: bool, keys: bool
) -> bytes:
    """The head of a request to the server behind. `fields` have names in lower case; `keys`: API keys are ours."""
    dropped = dropped_fields(fields, has_keys=keys)
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    lines += [b"%b: %b" % field for field in fields if field[0] not in dropped]
    lines.append(b"x-request-id: " + identifier)
    lines.append(b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n")
    return b"\r\n".join(lines)


def response_head(
    status: int, reason: bytes, fields: Fields, identifier: bytes, *, chunked: bool, close: bool
) -> bytes:
    """The head of the answer to a client. `chunked`: the body is sent so; `close`: it is the connection's last."""
    dropped = dropped_fields(fields, has_keys=False)
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    lines += [b"%b: %b" % field for field in fields if field[0] not in dropped]
    if identifier:
        lines.append(b"x-request-id: " + identifier)
    if chunked:
        lines.append(b"transfer-encoding: chunked")
    if close:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def chunk(data: bytes) -> bytes:
    """A piece of a body in the chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
