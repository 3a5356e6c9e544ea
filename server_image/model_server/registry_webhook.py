"""Webhooks of MLflow's registry: whether one is genuine, and about the alias that is served. For `http`.

MLflow signs the delivery's id, its time and the body with the webhook's secret. Nothing of a body is taken but names,
and all that a webhook can do is to let the server look at its source now.
https://mlflow.org/docs/latest/ml/webhooks/
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from model_server.errors import MalformedRequest, SettingsInvalid, Unauthorized

SECRET = "MLFLOW_WEBHOOK_SECRET"  # noqa: S105 - a name
_LEAST_CHARACTERS = 16
#: A delivery is older than this, or from a clock that is further ahead: somebody sends it again.
_MOST_SECONDS = 300
_ALIAS = re.compile(r"models:/(?P<name>[^/:@]+)@(?P<alias>[-_a-zA-Z0-9]+)")


class _Data(msgspec.Struct, frozen=True):
    name: str = ""
    alias: str = ""


class _Event(msgspec.Struct, frozen=True):
    entity: str
    action: str
    data: _Data


_EVENT = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class RegistryWebhook:
    """What a webhook has to know and to name."""

    name: str
    alias: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, uri: str, environ: Mapping[str, str]) -> RegistryWebhook | None:
        """That of a storage URI; None where no secret is set, or no alias is served. Raises SettingsInvalid."""
        secret, match = environ.get(SECRET, "").strip(), _ALIAS.fullmatch(uri)
        if not secret or match is None:
            return None
        if len(secret) < _LEAST_CHARACTERS:
            raise SettingsInvalid(
                f"{SECRET} has {len(secret)} characters, and a secret that nobody guesses has {_LEAST_CHARACTERS}",
                hint="Make one: `openssl rand -base64 32`. Give it to MLflow as the secret of the webhook.",
            )
        return cls(match["name"], match["alias"], secret.encode())

    def is_about_us(self, headers: Mapping[bytes, bytes], body: bytes, *, now: float) -> bool:
        """Whether a request says that our alias has moved. `now`: seconds since 1970.

        Raises:
            Unauthorized: it is not signed with our secret, or not lately.
            MalformedRequest: it is signed, and no event of MLflow.
        """
        identifier, sent = headers.get(b"x-mlflow-delivery-id", b""), headers.get(b"x-mlflow-timestamp", b"")
        digest = hmac.new(self.secret, b"%s.%s.%s" % (identifier, sent, body), hashlib.sha256).digest()
        given = headers.get(b"x-mlflow-signature", b"")
        if not hmac.compare_digest(given, b"v1," + base64.b64encode(digest)):
            raise Unauthorized("this webhook is not signed with the secret of this model", hint=f"It is {SECRET}.")
        if not (sent.isdigit() and len(sent) < 16 and abs(now - int(sent)) <= _MOST_SECONDS):
            raise Unauthorized(
                f"this webhook is not from the last {_MOST_SECONDS} seconds", hint="Set the clocks of both machines."
            )
        try:
            event = _EVENT.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedRequest("the body is no event of MLflow") from None
        is_move = event.entity == "model_version_alias"
        return is_move and (event.data.name, event.data.alias) == (self.name, self.alias)
