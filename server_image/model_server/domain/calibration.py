"""How often a classifier is right at each confidence, measured on labelled rows; `calibrate.py` writes it.

It is `calibration` in model.yaml: tables, so that a server needs no library of models to read them.
"""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from model_server.domain.tensors import Array

Share = Annotated[float, Meta(ge=0, le=1)]
Label = bool | int | float | str

#: Probabilities nearer to 0 or 1 are taken for this near: their log-odds are infinite, or tell nothing apart.
LEAST = 1e-9


class CalibrationTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A monotone table: from the probability that a model gives the class it predicts, to the share that are right.

    Attributes:
        prediction: the class that it is for; None for all.
        method: how it was fitted, for people.
    """

    prediction: Label | None = None
    probabilities: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=256)]
    shares: Annotated[tuple[Share, ...], Meta(min_length=1, max_length=256)]
    method: str = ""

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.shares):
            raise ValueError(f"{len(self.probabilities)} probabilities need as many shares, not {len(self.shares)}")
        if any(b <= a for a, b in itertools.pairwise(self.probabilities)):
            raise ValueError("probabilities must increase")
        if any(b < a for a, b in itertools.pairwise(self.shares)):
            raise ValueError("shares must not decrease")

    def shares_at(self, probabilities: Array) -> Array:
        """The shares at some probabilities, shape (rows,); between two points on a straight line over the log-odds."""
        found: Array = np.interp(log_odds(probabilities), log_odds(np.array(self.probabilities)), self.shares)
        return found


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the probabilities of a classifier mean.

    Attributes:
        rows: labelled rows that it was measured on; the model must not have been trained with them.
        classes: the model's, in the order of its probabilities.
        tables: of two classes one for each, else one for all.
        error: mean distance of the calibrated probabilities from the shares of rows that no table was fitted to.
        raw_error: the same of the model's own probabilities.
        dispersion: variance of the labels of those rows as a multiple of what the tables let expect, at least 1. It is
            above 1 where a table follows its own rows too closely.
    """

    rows: Annotated[int, Meta(ge=1)]
    classes: Annotated[tuple[Label, ...], Meta(min_length=2)]
    tables: Annotated[tuple[CalibrationTable, ...], Meta(min_length=1, max_length=2)]
    error: Share
    raw_error: Share
    dispersion: Annotated[float, Meta(ge=1)] = 1.0

    def __post_init__(self) -> None:
        known = [None] if len(self.classes) > 2 else list(self.classes)
        if [table.prediction for table in self.tables] != known:
            raise ValueError("tables: give two classes one table each, in their order, and more classes one for all")

    def right(self, answers: Array, probabilities: Array) -> Array:
        """How probable it is that each answer is right, shape (rows,).

        Args:
            answers: the predicted classes, shape (rows,).
            probabilities: what `confidences` gives, shape (rows,).
        """
        if len(self.tables) == 1:
            return self.tables[0].shares_at(probabilities)
        negative, positive = (table.shares_at(probabilities) for table in self.tables)
        found: Array = np.where(answers == self.classes[1], positive, negative)
        return found


def confidences(answers: Array, probabilities: Array, classes: tuple[object, ...]) -> Array:
    """The probability that a model gives to the class that it predicts, shape (rows,).

    Args:
        answers: the predicted classes, shape (rows,).
        probabilities: shape (rows, classes).
    """
    found = np.zeros(len(answers))
    for place, label in enumerate(classes):
        is_said = answers == label
        found[is_said] = probabilities[is_said, place]
    return found


def log_odds(probabilities: Array) -> Array:
    """Logarithms of the odds, which tell 0.999 from 0.999999 as 0.001 from 0.000001; those of 0 and 1 are finite."""
    inside = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    found: Array = np.log(inside / (1 - inside))
    return found
