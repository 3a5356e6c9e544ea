"""The Secret of this installation from which the tokens of pods are made: random, made once, kept in the API server."""

import base64
import binascii
import hashlib
import logging
import secrets

from model_operator.clients.kubernetes import KubernetesClient
from model_operator.errors import ApiError

log = logging.getLogger(__name__)

KEY = "token-secret"
_BYTES = 32


async def token_secret(client: KubernetesClient, namespace: str, name: str) -> bytes:
    """Return the secret; make it where there is none, as another replica may do at the same time.

    Empty where the operator has not the rights for that: pods are then made without a token, and the log says why.

    Raises:
        ApiError: the API server does not answer as it should.
    """
    try:
        while True:
            found = await client.find_secret(namespace, name)
            if found is not None and (secret := _decoded((found.get("data") or {}).get(KEY, ""))):
                return secret
            data = {KEY: base64.b64encode(secrets.token_bytes(_BYTES)).decode()}
            try:
                await client.fill_secret(namespace, name, data, found)
            except ApiError as error:
                if not error.is_conflict:
                    raise
    except ApiError as error:
        if error.status != 403:
            raise
        log.warning("pods get no token for their port of recent predictions: Secret %s/%s: %s", namespace, name, error)
    return b""


def secret_id(secret: bytes) -> str:
    """Return what tells one secret from another, and nothing else of it; empty for none."""
    return hashlib.sha256(b"id/" + secret).hexdigest()[:12] if secret else ""


def _decoded(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
    return found if len(found) >= _BYTES else b""
