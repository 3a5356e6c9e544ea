"""Compressed bodies: `Content-Encoding` of requests, `Accept-Encoding` for large answers.

https://www.rfc-editor.org/rfc/rfc9110#section-8.4 and #section-12.5.3
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from model_server.errors import MalformedRequest, RequestTooLarge, UnsupportedMediaType

ENCODING = b"content-encoding"
# Of zlib: a gzip header, or one of zlib's own.
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_GZIP = 31
#: The fastest: an answer of numbers gets hardly smaller with more work.
_LEVEL = 1


def decompressed(body: bytes, headers: Mapping[bytes, bytes], most_bytes: int) -> bytes:
    """A body without its content encoding. Raises UnsupportedMediaType, MalformedRequest or RequestTooLarge."""
    encoding = headers.get(ENCODING, b"identity").strip().lower()
    if encoding in (b"identity", b""):
        return body
    if encoding not in _WINDOW:
        raise UnsupportedMediaType(
            f"content-encoding {encoding.decode('latin-1')!r} is not read here", hint="Send gzip, deflate, or it plain."
        )
    reader = zlib.decompressobj(_WINDOW[encoding])
    try:
        # One byte more than allowed is enough to refuse it, however much is hidden in it.
        plain = reader.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest(f"the body is not {encoding.decode()}: {error}") from None
    if len(plain) > most_bytes:
        raise RequestTooLarge(f"the body has more than {most_bytes} bytes when it is decompressed")
    if not reader.eof or reader.unused_data:
        raise MalformedRequest(f"the body is not one whole {encoding.decode()} stream")
    return plain


def accepts_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client takes a compressed answer."""
    for entry in headers.get(b"accept-encoding", b"").lower().split(b","):
        name, _, weight = entry.partition(b";")
        if name.strip() in (b"gzip", b"x-gzip", b"*"):
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def compressed(body: bytes) -> bytes:
    """An answer's body as gzip."""
    writer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return writer.compress(body) + writer.flush()
