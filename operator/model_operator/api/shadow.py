"""Recent predictions of servers (docs/wire.md), as values; `policy.analysis.shadow_test` compares them."""

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One prediction. `request` is the digest of the request. Only the first of the `size` output values are included.

    `numbers` holds None where a value is not finite; a model that outputs text has digests in `labels` instead.
    """

    request: str
    size: int
    numbers: tuple[float | None, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRequest:
    """Keep one request in `every` for `seconds`, and return the predictions kept since `after`; without it, none."""

    every: int
    seconds: float
    after: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowResponse:
    """Response of a server: the number of predictions that each worker has kept, and the predictions since `after`."""

    cursor: tuple[int, ...]
    predictions: tuple[Prediction, ...] = ()


#: Environment variable with the digest of the token that the port of recent predictions wants. It has not the prefix of
#: the server's settings: older servers do not start with a setting that they do not know.
DIGEST_VARIABLE = "MODELDEPLOY_SHADOW_TOKEN_SHA256"


def shadow_token(secret: bytes, namespace: str, name: str) -> str:
    """Return the token for the pods of one model: a pod that is sent its own learns nothing about another's."""
    return hmac.new(secret, f"shadow/{namespace}/{name}".encode(), hashlib.sha256).hexdigest()


def token_digest(token: str) -> str:
    """Return what a pod is given of its token, from which nobody can make the token."""
    return hashlib.sha256(token.encode()).hexdigest()
