"""Inputs of tensors, as the Open Inference Protocol and Triton describe them, as features of model.yaml. PURE.

https://github.com/kserve/open-inference-protocol
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.importing.values import Finding, changed

#: Data types of the protocol as types of model.yaml.
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "string",
    "STRING": "string",
}
#: Of an input with more columns the graph itself says how many there are; a list of them helps nobody.
_MOST_COLUMNS = 512


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output. `shape` is that of one row, without the dimension of the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: str


def features_of(tensors: Sequence[Tensor]) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return `input_features`, empty where the inputs are no columns, with a finding for those."""
    if len(tensors) == 1 and _width(tensors[0]) > 1:
        (tensor,) = tensors
        if _width(tensor) > _MOST_COLUMNS or tensor.dtype == "string":
            return [], [_as_it_is(tensor)]
        names = [f"{tensor.name}_{index}" for index in range(_width(tensor))]
        return [{"name": name, "dtype": tensor.dtype} for name in names], [
            changed(
                tensor.path,
                f"{len(names)} columns of one tensor are features, {names[0]} to {names[-1]}: give them their names in"
                " model.yaml",
            )
        ]
    if all(_width(tensor) == 1 for tensor in tensors):
        return [{"name": tensor.name, "dtype": tensor.dtype} for tensor in tensors], []
    return [], [_as_it_is(tensor) for tensor in tensors if _width(tensor) != 1]


def _width(tensor: Tensor) -> int:
    """Return the columns of an input; 0 for one that is no row of columns."""
    if tensor.shape in ((), (1,)):
        return 1
    return tensor.shape[0] if len(tensor.shape) == 1 and tensor.shape[0] > 0 else 0


def _as_it_is(tensor: Tensor) -> Finding:
    return changed(
        tensor.path,
        f"a row of shape {list(tensor.shape)} is no list of columns, which model.yaml describes: the model's file"
        " says its shape",
    )
