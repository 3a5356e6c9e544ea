"""Why a model answered as it did: contributions of features, and what computes them.

`runtimes/explaining` makes an `Explainer` for a model, `explanations.py` runs it, protocols write its `Explanation`.
The contributions are Shapley values: https://arxiv.org/abs/1705.07874
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from model_server.domain.tensors import Array, Inputs

#: What the contributions add up to: the prediction, a probability, or the score from which a link makes one of them.
Scale = Literal["prediction", "probability", "raw score"]


class NotExplainable(Exception):
    """The model cannot be explained; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Contributions for some rows: `base` plus the sum over the features is `output`.

    `base` has shape (outputs,), `contributions` (rows, outputs, features) and `output` (rows, outputs). `errors` are
    the standard errors of estimated contributions, in their shape; None where the contributions are exact.
    """

    base: Array
    contributions: Array
    output: Array
    errors: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationKind:
    """What all explanations of a model have in common.

    `classes` are those that the outputs are about: the second of two, all of more, none for a model of numbers.
    """

    method: str
    scale: Scale
    classes: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The mean absolute contribution of each feature, over `rows` rows that are drawn from the reference profile."""

    rows: int
    values: Mapping[str, float] = field(default_factory=dict)


class Explainer(Protocol):
    """Explains the predictions of one model."""

    @property
    def kind(self) -> ExplanationKind:
        """Method, scale and classes."""

    @property
    def calls_model(self) -> bool:
        """Whether it calls the model's `predict`, which only the model's own thread may."""

    def steps(self, inputs: Inputs) -> Iterator[Explanation | None]:
        """Explain all rows; a short piece of the work is done before each None, and the last value is the result."""

    def reference_rows(self, count: int) -> Inputs | None:
        """Rows drawn from the reference profile, the same at each call; None without a profile."""
