"""The words shared by runtimes, inputs and protocols: named arrays and their descriptions.

Arrays are NumPy; the first dimension of each is the row. Datatype names are those of the Open
Inference Protocol (V2): BOOL, UINT8..64, INT8..64, FP16, FP32, FP64, BYTES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
#: By name: one array of shape (rows, features), one of shape (rows,) for each feature, or a graph's tensors.
Inputs: TypeAlias = Mapping[str, Array]
#: By name, each of shape (rows,) or (rows, ...); the first is the prediction.
Outputs: TypeAlias = dict[str, Array]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The V2 name of a NumPy dtype; text and objects are BYTES."""
    return _DATATYPES.get(dtype.newbyteorder("="), "BYTES")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named input or output. A shape entry of -1 is any size; the first is the row."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype that holds it."""
        return DTYPES[self.datatype]


def as_json(value: Any) -> Any:
    """What JSON shows for a value that it has no word for: orjson's `default`. Raises TypeError where none will do."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return float(value)
    if str(value) in ("NaT", "<NA>"):  # nothing, as pandas has it
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def values_of(array: Array) -> list[Any]:
    """An array's values as Python's, times as `datetime`: NumPy's nanoseconds would be numbers."""
    plain: list[Any] = (array.astype("datetime64[us]") if array.dtype.kind == "M" else array).tolist()
    return plain


def rows_of(inputs: Inputs) -> int:
    """How many rows the arrays have."""
    return len(next(iter(inputs.values())))
