"""Sends labels with their predictions to the servers of the revisions that predicted, by `POST /feedback`."""

from __future__ import annotations

import enum
import http.client
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from model_server.errors import DatasetInvalid, SettingsInvalid

TIMEOUT_SECONDS = 30
#: Of an answer, which is a status or a problem.
LONGEST_ANSWER = 64 * 1024
_ATTEMPTS = 5
_BUSY = (429, 503)


class Outcome(enum.Enum):
    """What became of a label: `UNCONFIRMED` may have been counted, and is not sent again."""

    SENT = "sent"
    NOT_SENT = "not sent"
    UNCONFIRMED = "unconfirmed"


class Sender:
    """One connection to the servers of one revision. A revision that is not reached is not tried again."""

    def __init__(self, address: str, key: str = "", context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsInvalid(f"{address!r} is no address of a server", hint="Write http://churn-3f2a1b.shop:80.")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = f"{parts.path.rstrip('/')}/feedback"
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_SECONDS, context=context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_SECONDS)
        )
        self._headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
        self.failure = ""

    def send(self, prediction: Any, label: Any) -> Outcome:
        """Send one label. Raises DatasetInvalid when the model refuses it, SettingsInvalid when the key is refused."""
        body = orjson.dumps({"prediction": prediction, "label": label})
        for attempt in range(_ATTEMPTS):
            if self.failure or not self._connect():
                return Outcome.NOT_SENT
            try:
                self._connection.request("POST", self._path, body, self._headers)
                answer = self._connection.getresponse()
                text = answer.read(LONGEST_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                self.failure = _reason(error)
                return Outcome.UNCONFIRMED
            if answer.status not in _BUSY:
                return self._outcome(answer.status, text)
            time.sleep(0.2 * 2**attempt)
        self.failure = "it is overloaded"
        return Outcome.NOT_SENT

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _connect(self) -> bool:
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as error:
                self.failure = _reason(error)
                return False
        return True

    def _outcome(self, status: int, text: bytes) -> Outcome:
        if status < 300:
            return Outcome.SENT
        if status in (401, 403):
            raise SettingsInvalid(
                "the server wants another API key for /feedback",
                hint="Mount the Secret of spec.server.auth and name its folder in MODEL_SERVER_AUTH_DIR.",
            )
        if status in (400, 422):
            raise DatasetInvalid(f"the model refuses it: {_problem(text)}")
        self.failure = f"it answered /feedback with {status}"
        return Outcome.NOT_SENT


class Senders:
    """The senders of all revisions; `addresses` by revision, or one for all with `{revision}` in it."""

    def __init__(
        self, addresses: Mapping[str, str], template: str, *, key: str, context: ssl.SSLContext | None
    ) -> None:
        self._addresses = addresses
        self._template = template
        self._key, self._context = key, context
        self._senders: dict[str, Sender] = {}

    def of(self, revision: str) -> Sender | None:
        """The sender of a revision, None where there is no address for it."""
        address = self._addresses.get(revision) or self._template.replace("{revision}", revision)
        if not address:
            return None
        if revision not in self._senders:
            self._senders[revision] = Sender(address, self._key, self._context)
        return self._senders[revision]

    def failures(self) -> dict[str, str]:
        """Why revisions were not reached."""
        return {revision: sender.failure for revision, sender in self._senders.items() if sender.failure}

    def close(self) -> None:
        """Close all connections."""
        for sender in self._senders.values():
            sender.close()


def _reason(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def _problem(text: bytes) -> str:
    try:
        document = orjson.loads(text)
        return str(document.get("error") or document)[:300]
    except (ValueError, AttributeError):
        return text[:300].decode("utf-8", "replace")
