"""Headers of messages: one spelling inside, and each broker's own outside.

CloudEvents has a prefix for its attributes in each binding: `ce-` for NATS, `ce_` for Kafka, `cloudEvents:` or
`cloudEvents_` for AMQP (https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents/bindings).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Most headers of a message that are read, and most bytes of them: what a producer writes is not ours to trust.
MOST_HEADERS = 64
MOST_BYTES = 16_384

_PREFIXES = (b"ce_", b"cloudevents:", b"cloudevents_")


def read_headers(pairs: Iterable[tuple[Any, Any]]) -> dict[bytes, bytes]:
    """Names in lower case, values as bytes; what is neither text, bytes nor a number is left out."""
    found: dict[bytes, bytes] = {}
    room = MOST_BYTES
    for name, value in pairs:
        key, content = _as_bytes(name), _as_bytes(value)
        if key is None or content is None:
            continue
        room -= len(key) + len(content)
        if room < 0 or len(found) == MOST_HEADERS:
            break
        found[_plain(key.lower())] = content
    return found


def as_text(headers: Mapping[bytes, bytes], prefix: str = "ce-") -> dict[str, str]:
    """Headers as a broker's client takes them, with the prefix that its binding has for CloudEvents."""
    return {
        (prefix + name[3:].decode("latin-1") if name.startswith(b"ce-") else name.decode("latin-1")): value.decode(
            "latin-1"
        )
        for name, value in headers.items()
    }


def printable(text: str, most: int) -> bytes:
    """A text as the value of a header: ASCII in one line, so many bytes at most."""
    return " ".join(text.split()).encode("ascii", "backslashreplace")[:most]


def _plain(name: bytes) -> bytes:
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return b"ce-" + name[len(prefix) :]
    return name


def _as_bytes(value: Any) -> bytes | None:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return str(value).encode() if isinstance(value, int | float) else None
