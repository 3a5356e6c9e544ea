"""API keys from a mounted Secret: each file of the folder is one key. `dataplane.py` and `http/keys.py` ask.

Kubernetes replaces the files when the Secret changes, so the folder is looked at again, at most once
a second, and keys come and go without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from model_server.errors import SettingsInvalid, Unauthorized

log = logging.getLogger(__name__)


class Authenticator(Protocol):
    """Lets a request in or not. `asks`: whether a key is needed."""

    asks: bool

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Unauthorized unless the request may come in."""


class AllowAll:
    """No keys are set: everybody who reaches the server may use it."""

    asks = False

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Let everything in."""


class ApiKeyAuth:
    """Asks for a key in `Authorization: Bearer` or `x-api-key`."""

    INTERVAL_SECONDS = 1.0
    asks = True

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._read_at = clock()
        self._digests = read_keys(folder)
        if not self._digests:
            raise SettingsInvalid(
                f"{folder} holds no API key",
                hint="Put at least one key into the Secret: each of its values is one key.",
            )

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Unauthorized unless a valid key is given."""
        if self._clock() - self._read_at >= self.INTERVAL_SECONDS:
            self._refresh()
        given = _given_key(headers)
        if given is None:
            raise Unauthorized(
                "this server needs an API key", hint="Send it as Authorization: Bearer KEY or x-api-key: KEY."
            )
        digest = hashlib.sha256(given).digest()
        # Every key is compared, whichever matches: the time taken tells nothing.
        matches = [hmac.compare_digest(digest, accepted) for accepted in self._digests]
        if not any(matches):
            raise Unauthorized("this API key is not valid here")

    def _refresh(self) -> None:
        self._read_at = self._clock()
        digests = read_keys(self._folder)
        if digests != self._digests:
            log.info("API keys changed", extra={"keys": len(digests)})
            self._digests = digests


class TokenAuth:
    """Asks for the one token with a known SHA-256, in the headers of an API key."""

    asks = True

    def __init__(self, digest: str) -> None:
        self._digest = bytes.fromhex(digest)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Unauthorized unless the token is given."""
        given = _given_key(headers)
        if given is None or not hmac.compare_digest(hashlib.sha256(given).digest(), self._digest):
            raise Unauthorized("this port is for the operator, which has its token")


def read_keys(folder: Path) -> list[bytes]:
    """The sha256 of each key in the folder; Kubernetes' own bookkeeping begins with two dots."""
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("..") and file.is_file())
        keys = [file.read_bytes().strip() for file in files]
    except OSError as error:
        log.error("API keys cannot be read: %s", error)
        return []
    return [hashlib.sha256(key).digest() for key in keys if key]


def _given_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip()
    return headers.get(b"x-api-key")
