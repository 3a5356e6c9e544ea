"""For a model.py whose package says nothing about its features: it is given what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.errors import InvalidInput
from model_server.package.metadata import Feature
from model_server.tensors import Array, Inputs, Tensor

NAME = "inputs"


def _holds_truth(values: Sequence[Any]) -> bool:
    return any(_holds_truth(value) if isinstance(value, list) else isinstance(value, bool) for value in values)


class Anything:
    """Numbers of one shape as a numeric array, all else as an object array with one JSON value a row."""

    def __init__(self) -> None:
        self.features: tuple[Feature, ...] = ()
        self.tensors = (Tensor(NAME, "BYTES", (-1, -1)),)

    def from_instances(self, instances: Sequence[Any], *, plain: bool) -> Inputs:
        try:
            array = np.array(instances)
        except ValueError:
            array = np.empty(0, dtype=object)
        mixed = not plain and array.dtype.kind in "fiu" and _holds_truth(instances)
        if array.dtype.kind not in "fiub" or mixed:
            array = np.empty(len(instances), dtype=object)
            array[:] = list(instances)
        return {NAME: array}

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        if len({len(array) for array in tensors.values()}) > 1:
            raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
        return {NAME: next(iter(tensors.values()))} if len(tensors) == 1 else tensors

    def example(self) -> Inputs | None:
        return None

    def neutral(self) -> Inputs | None:
        return None
