"""One text a row, for models that make words of it themselves: TF-IDF and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model_server.domain.features import Feature, Scalar
from model_server.domain.tensors import Array, Inputs
from model_server.inputs.columns import Columns

NAME = "text"


class Texts(Columns):
    """A row is a text, a list with one, or an object with one under any name, as a table has it; shape (rows,)."""

    def __init__(self, sample: Scalar | None = None, features: Sequence[Feature] = ()) -> None:
        """`features` is the only one, where the model describes it itself."""
        (feature,) = features or (Feature(name=NAME, dtype="string"),)
        super().__init__([feature], {feature.name: "text" if sample is None else sample})

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        rows = [list(row.values()) if isinstance(row, dict) and len(row) == 1 else row for row in instances]
        return super().from_instances(rows, numbers_only=numbers_only)

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        # Peers accept any name for the only input.
        return super().from_tensors(
            {self.features[0].name: next(iter(tensors.values()))} if len(tensors) == 1 else tensors
        )
