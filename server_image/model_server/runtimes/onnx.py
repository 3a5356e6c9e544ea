"""ONNX graphs, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime

from model_server.domain.model import Signature
from model_server.domain.numbers import NumberKind, Numbers
from model_server.domain.tensors import Array, Inputs, Outputs, Tensor, rows_of
from model_server.errors import ArtifactCorrupt, LoadFailed
from model_server.package.reader import Package
from model_server.runtimes.onnx_labels import labels_in, operator_of

T = TypeVar("T")

_DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
}

#: What the last operator of a graph gives.
_KINDS: dict[str, NumberKind] = {
    "Softmax": "probabilities",
    "Sigmoid": "probabilities",
    "Normalizer": "probabilities",
    "LogSoftmax": "scores",
}


def load(package: Package, *, threads: int) -> Graph:
    """Open the graph. Raises ArtifactCorrupt, or LoadFailed for what ONNX Runtime does not run."""
    (path,) = package.artifacts
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    errors = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (errors.InvalidProtobuf, errors.InvalidGraph) as error:
        raise ArtifactCorrupt(f"{path.name} is not a valid ONNX graph: {_short(error)}") from None
    except Exception as error:
        raise LoadFailed(
            f"{path.name} cannot be loaded: {_short(error)}",
            hint=f"ONNX Runtime {onnxruntime.__version__} runs it; export for an opset it knows.",
        ) from None
    return Graph(session, path)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


class Graph:
    """Calls the session; an `ai.onnx.ml` classifier's map outputs become a matrix of probabilities."""

    runs_inline = True

    def __init__(self, session: onnxruntime.InferenceSession, path: Path) -> None:
        self._session = session
        self._takes_one_row = any(_rows(node) == 1 for node in session.get_inputs())
        self.signature = Signature(tensors=tuple(_tensor(node) for node in session.get_inputs()))
        self._dtypes = {tensor.name: tensor.dtype for tensor in self.signature.tensors}
        self._ranks = {node.name: len(node.shape) for node in session.get_inputs()}
        outputs = session.get_outputs()
        self._names = [node.name for node in outputs]
        self._prediction = self._names[0]
        self._maps = len(outputs) == 2 and outputs[1].type.startswith("seq(map(")
        is_matrix = (
            len(outputs) == 2 and len(outputs[1].shape) == 2 and outputs[1].type in ("tensor(float)", "tensor(double)")
        )
        labels = outputs[0].type in ("tensor(int64)", "tensor(string)") and len(outputs[0].shape) == 1
        self._is_classifier = labels and (self._maps or is_matrix)
        self.probability_output = self._names[1] if self._is_classifier else ""
        self.output_name = self._prediction
        self.numbers = None if self._is_classifier else _numbers(outputs, path)
        self.classes: tuple[object, ...] = self._find_classes(path) if self._is_classifier else ()

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        names = self._names if probabilities or not self._is_classifier else [self._prediction]
        values = self._run(names, {name: self._shaped(name, array) for name, array in inputs.items()})
        if not self._is_classifier:
            return dict(zip(names, values, strict=True))
        outputs = {self._prediction: values[0]}
        if probabilities:
            outputs[self.probability_output] = _as_matrix(values[1], self.classes) if self._maps else values[1]
        return outputs

    def _run(self, names: list[str], feed: Inputs) -> list[Any]:
        count = rows_of(feed)
        if not self._takes_one_row or count == 1:
            return list(self._session.run(names, feed))
        each = [
            self._session.run(names, {name: array[row : row + 1] for name, array in feed.items()})
            for row in range(count)
        ]
        return [
            np.concatenate(values) if isinstance(values[0], np.ndarray) else [one for value in values for one in value]
            for values in zip(*each, strict=True)
        ]

    def _shaped(self, name: str, array: Array) -> Array:
        if array.dtype != self._dtypes[name]:
            array = array.astype(self._dtypes[name])
        return array.reshape(-1, 1) if self._ranks[name] == 2 and array.ndim == 1 else array

    def _find_classes(self, path: Path) -> tuple[object, ...]:
        """The labels a classifier can give, in the order of its columns: the keys of its maps, or what the file says.

        () where neither tells: a guess would give the probabilities of one class to another.
        """
        feed = {}
        for tensor in self.signature.tensors:
            size = [1, *(abs(size) for size in tensor.shape[1:])]
            feed[tensor.name] = np.full(size, "" if tensor.dtype == object else 0, dtype=tensor.dtype)
        labels, second = self._session.run(self._names, feed)
        if self._maps:
            return tuple(second[0])
        text = labels.dtype.kind == "O"
        found = _read(path, lambda view: labels_in(view, self._prediction, second.shape[1], text=text)) or ()
        # What the graph says of a row has to be what the labels say of it.
        return found if found and found[int(second[0].argmax())] == labels[0] else ()


def _numbers(outputs: Sequence[onnxruntime.NodeArg], path: Path) -> Numbers | None:
    """What a graph of one float output answers; None for others, and where its shape does not say how many numbers."""
    if len(outputs) != 1 or outputs[0].type not in ("tensor(float)", "tensor(double)", "tensor(float16)"):
        return None
    count = outputs[0].shape[1] if len(outputs[0].shape) == 2 else 1
    if len(outputs[0].shape) > 2 or not isinstance(count, int):
        return None
    operator = _read(path, lambda view: operator_of(view, outputs[0].name)) or ""
    if count == 1 and operator in ("Softmax", "Normalizer"):
        return None
    # Independent probabilities do not add up to one.
    kind = "scores" if operator == "Sigmoid" and count > 1 else _KINDS.get(operator, "unknown")
    return Numbers(kind, count)


def _read(path: Path, find: Callable[[memoryview], T]) -> T | None:
    """What a reader of the file's protocol buffer finds; None where it is not as the reader expects it."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        view = memoryview(content)
        try:
            return find(view)
        except (ValueError, IndexError, TypeError):
            return None
        finally:
            view.release()


def _as_matrix(maps: Sequence[dict[object, float]], classes: Sequence[object]) -> Array:
    return np.array([[row[label] for label in classes] for row in maps], dtype=np.float32)


def _rows(node: onnxruntime.NodeArg) -> int:
    """How many rows an input takes, 0 for any number."""
    return node.shape[0] if node.shape and isinstance(node.shape[0], int) else 0


def _tensor(node: onnxruntime.NodeArg) -> Tensor:
    if node.type not in _DATATYPES:
        raise LoadFailed(
            f"input {node.name} is a {node.type}, which this server cannot send",
            hint="Export it with tensor inputs.",
        )
    shape = [size if isinstance(size, int) and size > 0 else -1 for size in node.shape]
    if _rows(node) > 1:
        raise LoadFailed(
            f"input {node.name} takes {_rows(node)} rows and no other number",
            hint="Export it with a free first dimension: dynamic_axes={'x': {0: 'rows'}}.",
        )
    return Tensor(node.name, _DATATYPES[node.type], (-1, *shape[1:]))
