"""For a model.py whose package says nothing about its features: it is given what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.tensors import Array, Inputs, Tensor
from model_server.errors import InvalidInput
from model_server.inputs.adapter import holds_boolean

NAME = "inputs"


class Untyped:
    """Numbers of one shape as a numeric array, all else as an object array with one JSON value a row."""

    def __init__(self) -> None:
        self.features: tuple[Feature, ...] = ()
        self.tensors = (Tensor(NAME, "BYTES", (-1, -1)),)

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        try:
            array = np.array(instances)
        except ValueError:
            array = np.empty(0, dtype=object)
        mixed = not numbers_only and array.dtype.kind in "fiu" and holds_boolean(instances)
        if array.dtype.kind not in "fiub" or mixed:
            array = np.empty(len(instances), dtype=object)
            array[:] = list(instances)
        return {NAME: array}

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        if len({len(array) for array in tensors.values()}) > 1:
            raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
        return {NAME: next(iter(tensors.values()))} if len(tensors) == 1 else tensors

    def sample_row(self) -> list[Any] | None:
        return None

    def example(self) -> Inputs | None:
        return None

    def dummy_rows(self) -> Inputs | None:
        return None

    def other_dummy_rows(self) -> Sequence[Inputs]:
        return ()
