"""API keys from a mounted Secret: each file of the folder is one key. `dataplane.py` and `http/keys.py` check them.

Kubernetes replaces the files when the Secret changes, so the folder is looked at again, at most once
a second, and keys come and go without a restart.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from model_server.errors import SettingsInvalid, Unauthorized

log = logging.getLogger(__name__)


class Authenticator(Protocol):
    """Lets a request in or not. `asks`: whether a key is needed."""

    asks: bool

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the name of the key, "" for none. Raises Unauthorized unless the request may come in."""


class AllowAll:
    """No keys are set: everybody who reaches the server may use it."""

    asks = False

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Let everything in."""
        return ""


class ApiKeyAuth:
    """Asks for a key in `Authorization: Bearer` or `x-api-key`."""

    INTERVAL_SECONDS = 1.0
    asks = True

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.monotonic, *, limited: Collection[str] = ()
    ) -> None:
        """Read the keys; `limited` names those that are to have limits, for a warning where one is not there.

        Raises SettingsInvalid where there is no key.
        """
        self._folder, self._limited = folder, limited
        self._clock = clock
        self._read_at = clock()
        self._digests = read_keys(folder)
        if not self._digests:
            raise SettingsInvalid(
                f"{folder} holds no API key",
                hint="Put at least one key into the Secret: each of its values is one key.",
            )
        self._warn_of_unknown()

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the name of the key that is given. Raises Unauthorized unless it is valid."""
        if self._clock() - self._read_at >= self.INTERVAL_SECONDS:
            self._refresh()
        given = _given_key(headers)
        if given is None:
            raise Unauthorized(
                "this server needs an API key", hint="Send it as Authorization: Bearer KEY or x-api-key: KEY."
            )
        digest = hashlib.sha256(given).digest()
        # Every key is compared, whichever matches: the time taken tells nothing.
        names = [name for name, accepted in self._digests.items() if hmac.compare_digest(digest, accepted)]
        if not names:
            raise Unauthorized("this API key is not valid here")
        return names[0]

    def _refresh(self) -> None:
        self._read_at = self._clock()
        digests = read_keys(self._folder)
        if digests != self._digests:
            log.info("API keys changed", extra={"keys": len(digests)})
            self._digests = digests
            self._warn_of_unknown()

    def _warn_of_unknown(self) -> None:
        """A limit for a key that is not there limits nobody: it may come later, or its name is misspelled."""
        if unknown := sorted(set(self._limited) - self._digests.keys()):
            log.warning(
                "no API key is named %s: the limits for it in spec.server.auth.limits limit nobody. Correct the name,"
                " or add the key to the Secret, which has %s",
                " or ".join(map(repr, unknown)),
                ", ".join(map(repr, self._digests)) or "none",
            )


class TokenAuth:
    """Asks for the one token with a known SHA-256, in the headers of an API key."""

    asks = True

    def __init__(self, digest: str) -> None:
        self._digest = bytes.fromhex(digest)

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Raise Unauthorized unless the token is given."""
        given = _given_key(headers)
        if given is None or not hmac.compare_digest(hashlib.sha256(given).digest(), self._digest):
            raise Unauthorized("this port is for the operator, which has its token")
        return ""


class AnyOf:
    """Lets in what one of several authenticators lets in; what the first says of a refused request is the answer."""

    def __init__(self, first: Authenticator, *others: Authenticator) -> None:
        self._first, self._others = first, others
        self.asks = first.asks and all(other.asks for other in others)

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Raise the Unauthorized of the first authenticator unless one of them lets the request in."""
        try:
            return self._first.check(headers)
        except Unauthorized:
            if not any(_accepts(other, headers) for other in self._others):
                raise
            return ""


class BrowserAuth:
    """Accepts a key as the password of basic authentication too, under any user name: a browser asks its user for that.

    For pages alone: a browser repeats a password by itself, even in requests that another site causes.
    https://www.rfc-editor.org/rfc/rfc7617
    """

    def __init__(self, keys: Authenticator) -> None:
        self._keys = keys
        self.asks = keys.asks

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Raise Unauthorized, for a browser to ask its user, unless a valid key is given."""
        password = _password(headers)
        given = [headers] if password is None else [headers, {b"x-api-key": password}]
        if not any(_accepts(self._keys, one) for one in given):
            raise Unauthorized(
                "these pages need an API key",
                hint="Send it as x-api-key: KEY; in a browser it is the password, and the user name does not matter.",
                by_browser=True,
            )
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What lets requests to the metrics, and to the document and its pages, in; by default everything."""

    metrics: Authenticator = field(default_factory=AllowAll)
    docs: Authenticator = field(default_factory=AllowAll)


def guards_of(protected: Collection[str], keys: Authenticator, operator: Authenticator | None) -> Guards:
    """The guards of what is `protected` by keys; the operator reads the metrics with its token."""
    metrics = keys if operator is None else AnyOf(keys, operator)
    return Guards(
        metrics=metrics if "metrics" in protected else AllowAll(),
        docs=BrowserAuth(keys) if "docs" in protected else AllowAll(),
    )


def _accepts(authenticator: Authenticator, headers: Mapping[bytes, bytes]) -> bool:
    try:
        authenticator.check(headers)
    except Unauthorized:
        return False
    return True


def read_keys(folder: Path) -> Mapping[str, bytes]:
    """The sha256 of each key in the folder, by its name; Kubernetes' own bookkeeping begins with two dots."""
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("..") and file.is_file())
        keys = {file.name: file.read_bytes().strip() for file in files}
    except OSError as error:
        log.error("API keys cannot be read: %s", error)
        return {}
    return {name: hashlib.sha256(key).digest() for name, key in keys.items() if key}


def _given_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    bearer = headers.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip()
    return headers.get(b"x-api-key")


def _password(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The password of basic authentication; None where there is none, or it cannot be read."""
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        _, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return password.strip() if colon else None
