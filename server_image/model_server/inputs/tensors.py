"""Named arrays of any rank: images, sequences, embeddings; what an ONNX or TorchScript graph declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.tensors import Array, Inputs, Tensor, datatype_of
from model_server.errors import InvalidInput, Problem
from model_server.inputs.adapter import preview


class TensorAdapter:
    """An instance is a nested list for the only input, or an object with one for each input."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.features: tuple[Feature, ...] = ()
        self.tensors = tuple(tensors)

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        return {tensor.name: self._stack(tensor, instances) for tensor in self.tensors}

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        if len(self.tensors) == 1 and len(tensors) == 1:
            # Peers accept any name for the only input.
            tensors = {self.tensors[0].name: next(iter(tensors.values()))}
        names = [one.name for one in self.tensors]
        problems = [
            Problem(f"inputs[{name}]", f"is not an input of this model; known are {', '.join(names)}")
            for name in tensors
            if name not in names
        ]
        problems += [Problem(f"inputs[{name}]", "is missing") for name in names if name not in tensors]
        if problems:
            raise InvalidInput(problems)
        arrays = {
            tensor.name: self._fit(tensor, tensors[tensor.name], f"inputs[{tensor.name}]") for tensor in self.tensors
        }
        if len({len(array) for array in arrays.values()}) > 1:
            raise InvalidInput.at("inputs", "expected the same number of rows in each tensor")
        return arrays

    def sample_row(self) -> list[Any] | None:
        return None

    def example(self) -> Inputs | None:
        return None

    def dummy_rows(self) -> Inputs | None:
        return self._filled_with(0, "", size=1)

    def other_dummy_rows(self) -> Sequence[Inputs]:
        # A graph may divide by its input, or need more than one of what it takes any number of.
        return [self._filled_with(number, "text", size=size) for size in (1, 8) for number in (1, 0)]

    def _filled_with(self, number: int, text: str, *, size: int) -> Inputs:
        return {
            tensor.name: np.full(
                [1, *(size if one < 0 else one for one in tensor.shape[1:])],
                text if tensor.dtype == object else number,
                dtype=tensor.dtype,
            )
            for tensor in self.tensors
        }

    def _stack(self, tensor: Tensor, instances: Sequence[Any]) -> Array:
        values = []
        for index, instance in enumerate(instances):
            value, where = self._value(tensor, instance, f"instances[{index}]")
            values.append(self._row(tensor, value, where))
        shapes = sorted({value.shape for value in values})
        if len(shapes) > 1:
            listed = ", ".join(str(list(shape)) for shape in shapes)
            raise InvalidInput.at("instances", f"expected rows of one shape, got {listed}")
        return np.stack(values)

    def _value(self, tensor: Tensor, instance: Any, where: str) -> tuple[Any, str]:
        """One row's part for one input, and where it was found."""
        names = [one.name for one in self.tensors]
        if not isinstance(instance, dict):
            if len(names) > 1:
                raise InvalidInput.at(where, f"expected an object with {', '.join(names)}, got {preview(instance)}")
            return instance, where
        strange = sorted(instance.keys() - set(names))
        if strange:
            message = f"is not an input of this model; known are {', '.join(names)}"
            raise InvalidInput.at(f"{where}.{strange[0]}", message)
        if tensor.name not in instance:
            raise InvalidInput.at(f"{where}.{tensor.name}", "is missing")
        return instance[tensor.name], f"{where}.{tensor.name}"

    def _row(self, tensor: Tensor, instance: Any, where: str) -> Array:
        try:
            array = np.array(instance, dtype=object if tensor.datatype == "BYTES" else None)
        except ValueError:
            raise InvalidInput.at(where, f"expected nested lists of equal lengths, got {preview(instance)}") from None
        row: Array = self._fit(tensor, array[np.newaxis], where)[0]
        return row

    def _fit(self, tensor: Tensor, array: Array, where: str) -> Array:
        """Check rank, sizes and kind, and cast. A column input also takes a flat list."""
        if tensor.shape[1:] == (1,) and array.ndim == 1:
            array = array.reshape(-1, 1)
        sizes = zip(array.shape[1:], tensor.shape[1:], strict=False)
        if array.ndim != len(tensor.shape) or any(want not in (-1, got) for got, want in sizes):
            expected = [size if size != -1 else "any" for size in tensor.shape[1:]]
            raise InvalidInput.at(where, f"expected rows of shape {preview(expected)}, got {list(array.shape[1:])}")
        if not _kind_fits(array, tensor):
            raise InvalidInput.at(where, f"expected {tensor.datatype} values, got {datatype_of(array.dtype)}")
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(tensor.dtype)
        if tensor.dtype.kind in "iu" and not (cast == array).all():
            raise InvalidInput.at(where, f"expected whole numbers that fit {tensor.datatype}")
        if tensor.dtype.kind == "f" and not np.isfinite(cast).all():
            raise InvalidInput.at(where, f"expected finite numbers that fit {tensor.datatype}")
        return cast


def _kind_fits(array: Array, tensor: Tensor) -> bool:
    if tensor.datatype == "BYTES":
        return array.dtype == object and all(isinstance(value, str | bytes) for value in array.reshape(-1).tolist())
    if tensor.datatype == "BOOL":
        return array.dtype == np.bool_
    return array.dtype.kind in "fiu"
