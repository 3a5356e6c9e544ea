"""Recent predictions of servers (docs/wire.md), as values; `policy.analysis.shadow_test` compares them."""

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
