"""Explainers that compute contributions without the model's `predict`: of linear models and of trees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from model_server.domain.explanations import Explanation, ExplanationKind
from model_server.domain.tensors import Array, Inputs, rows_of

#: Rows of one step: TreeSHAP takes some tenths of a millisecond for one.
STEP_ROWS = 16

#: The base value, shape (outputs,), and contributions, shape (rows, outputs, features).
Contributions: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectExplainer:
    """Calls `contribute` on the rows that `form` makes of the inputs; `scores` is the model's own answer to them."""

    kind: ExplanationKind
    form: Callable[[Inputs], Any]
    contribute: Callable[[Any], Contributions]
    scores: Callable[[Any], Array]
    reference_rows: Callable[[int], Inputs | None]
    calls_model: bool = False

    def steps(self, inputs: Inputs) -> Iterator[Explanation | None]:
        """Explain all rows, a few in a step."""
        parts: list[Contributions] = []
        for start in range(0, rows_of(inputs), STEP_ROWS):
            part = {name: array[start : start + STEP_ROWS] for name, array in inputs.items()}
            parts.append(self.contribute(self.form(part)))
            yield None
        base = parts[0][0]
        contributions = np.concatenate([each for _, each in parts])
        yield Explanation(base=base, contributions=contributions, output=base + contributions.sum(axis=2))


def by_output(contributions: Array, count: int) -> Contributions:
    """The base and contributions of what XGBoost and LightGBM give: (rows, [outputs,] features + 1), also flat."""
    shaped = np.asarray(contributions, dtype=np.float64).reshape(len(contributions), -1, count + 1)
    return shaped[0, :, -1], shaped[:, :, :-1]


def has_trees(booster: Any) -> bool:
    """Whether XGBoost's Booster has trees; contributions of its linear model are measured from zero."""
    config = json.loads(booster.save_config())
    return bool(config["learner"]["gradient_booster"]["name"] != "gblinear")


def as_scores(values: Any) -> Array:
    """A model's answer as (rows, outputs)."""
    scores = np.asarray(values, dtype=np.float64)
    return scores.reshape(-1, 1) if scores.ndim == 1 else scores
