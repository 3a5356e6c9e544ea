"""Recent predictions of servers (docs/wire.md), as values; `policy.analysis.shadow_test` compares them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer. `request` is a digest of what was asked; of the output's `size` values the first ones are there.

    `numbers` holds None where a value is not finite; a model that answers text has digests in `labels` instead.
    """

    request: str
    size: int
    numbers: tuple[float | None, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRequest:
    """Keep one request in `every` for `seconds`, and tell what was kept since `after`; without it, nothing yet."""

    every: int
    seconds: float
    after: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowResponse:
    """A server's answer: what each of its workers has kept since it began, and the predictions since the question."""

    cursor: tuple[int, ...]
    predictions: tuple[Prediction, ...] = ()
