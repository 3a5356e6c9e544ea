"""ONNX graphs, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime

from model_server.errors import ArtifactCorrupt, LoadFailed
from model_server.package.opening import Package
from model_server.runtimes.base import Signature
from model_server.tensors import Array, Inputs, Outputs, Tensor

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
    return Graph(session)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


class Graph:
    """Calls the session; an `ai.onnx.ml` classifier's map outputs become a matrix of probabilities."""

    is_pure = True

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
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
        self.probabilities = self._names[1] if self._is_classifier else ""
        self.classes: tuple[object, ...] = self._find_classes() if self._is_classifier else ()

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        wanted = self._names if probabilities or not self._is_classifier else [self._prediction]
        values = self._session.run(wanted, {name: self._shaped(name, array) for name, array in inputs.items()})
        if not self._is_classifier:
            return dict(zip(wanted, values, strict=True))
        outputs = {self._prediction: values[0]}
        if probabilities:
            outputs[self.probabilities] = _as_matrix(values[1], self.classes) if self._maps else values[1]
        return outputs

    def _shaped(self, name: str, array: Array) -> Array:
        if array.dtype != self._dtypes[name]:
            array = array.astype(self._dtypes[name])
        return array.reshape(-1, 1) if self._ranks[name] == 2 and array.ndim == 1 else array

    def _find_classes(self) -> tuple[object, ...]:
        """The labels a classifier can give: the keys of its maps, or its columns by number."""
        shape = self._session.get_outputs()[1].shape
        if not self._maps and len(shape) == 2 and isinstance(shape[1], int):
            return tuple(range(shape[1]))
        feed = {}
        for tensor in self.signature.tensors:
            size = [1, *(abs(size) for size in tensor.shape[1:])]
            feed[tensor.name] = np.full(size, "" if tensor.dtype == object else 0, dtype=tensor.dtype)
        second = self._session.run(self._names, feed)[1]
        return tuple(second[0]) if self._maps else tuple(range(second.shape[1]))


def _as_matrix(maps: Sequence[dict[object, float]], classes: Sequence[object]) -> Array:
    return np.array([[row[label] for label in classes] for row in maps], dtype=np.float32)


def _tensor(node: onnxruntime.NodeArg) -> Tensor:
    if node.type not in _DATATYPES:
        raise LoadFailed(
            f"input {node.name} is a {node.type}, which this server cannot send",
            hint="Export it with tensor inputs.",
        )
    shape = [size if isinstance(size, int) and size > 0 else -1 for size in node.shape]
    return Tensor(node.name, _DATATYPES[node.type], (-1, *shape[1:]))
