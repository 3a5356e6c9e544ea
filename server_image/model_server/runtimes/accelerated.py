"""Optional speed: a scikit-learn model converted to ONNX at load, and compared with the original before it serves.

ONNX Runtime answers in microseconds what the library's own `predict` needs half a millisecond for. It
computes in single precision, so answers are compared on reference rows; a model that differs by more
than the tolerance is refused, with the numbers. `loading.py` calls `accelerate`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from model_server.errors import AccelerationRefused
from model_server.inputs.layout import Layout
from model_server.inputs.matrix import Matrix
from model_server.package.metadata import Feature, Metadata, ReferenceFeature
from model_server.runtimes.base import Model
from model_server.runtimes.estimators import Estimator
from model_server.tensors import Array, Inputs, Outputs, rows_of

log = logging.getLogger(__name__)

ROWS = 2_000
TOLERANCE = 1e-4
# Labels on the very border between two classes may fall to the other side in single precision.
MOST_OTHER_LABELS = 0.001
_HINT = "Leave accelerate out to serve this model by its own library."


def accelerate(model: Model, layout: Layout, metadata: Metadata, *, threads: int) -> Model:
    """The model as an ONNX graph. Raises AccelerationRefused when it cannot be, or answers differently."""
    if not isinstance(model, Estimator) or not isinstance(layout, Matrix):
        raise AccelerationRefused("only scikit-learn models of numeric tables can be accelerated", hint=_HINT)
    graph = Accelerated(model, layout, convert(model.estimator, len(layout.features)), threads)
    rows = reference_rows(layout.features, metadata.reference_profile, np.random.default_rng(0))
    compare(model, graph, {layout.name: rows.astype(layout.dtype)})
    one = {layout.name: rows[:1].astype(layout.dtype)}
    log.info("accelerated", extra={"original_us": _microseconds(model, one), "onnx_us": _microseconds(graph, one)})
    return graph


def convert(estimator: Any, count: int) -> bytes:
    """The serialized graph for rows of `count` numbers. Raises AccelerationRefused for what no converter knows."""
    from skl2onnx import to_onnx

    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    try:
        graph = to_onnx(estimator, np.zeros((1, count), dtype=np.float32), options=options)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise AccelerationRefused(
            f"{type(estimator).__name__} cannot be converted to ONNX: {text}", hint=_HINT
        ) from None
    serialized: bytes = graph.SerializeToString()
    return serialized


class Accelerated:
    """Answers like the estimator it was made from, with the same names and types."""

    is_pure = True

    def __init__(self, original: Estimator, layout: Matrix, graph: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._names = [node.name for node in self._session.get_outputs()]
        self.signature = original.signature
        self.probabilities, self.classes = original.probabilities, original.classes
        example = original.predict(layout.neutral() or {}, probabilities=False)["predict"]
        self._dtype, self._rank = example.dtype, example.ndim

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        (rows,) = inputs.values()
        names = self._names if probabilities and self.probabilities else self._names[:1]
        values = self._session.run(names, {self._input: rows.astype(np.float32)})
        # A regressor's graph answers with a column where scikit-learn answers with a vector.
        first = values[0].reshape(len(rows)) if self._rank == 1 else values[0]
        outputs = {"predict": first.astype(self._dtype, copy=False)}
        if len(values) > 1:
            outputs[self.probabilities] = values[1]
        return outputs


def reference_rows(
    features: Sequence[Feature], profile: dict[str, ReferenceFeature], rng: np.random.Generator, count: int = ROWS
) -> Array:
    """Rows to compare models on, shape (count, features): where the training data was, as far as the package tells."""
    columns = []
    for feature in features:
        low, high = _span(feature, profile.get(feature.name))
        values = rng.uniform(low, high, count)
        if feature.categories is not None:
            values = rng.choice(np.array(feature.categories, dtype=np.float64), count)
        columns.append(np.round(values) if feature.is_integer else values)
    return np.column_stack(columns)


def _span(feature: Feature, reference: ReferenceFeature | None) -> tuple[float, float]:
    if reference is not None and reference.edges:
        return reference.edges[0], reference.edges[-1]
    if feature.range is not None and np.isfinite(feature.range).all():
        return feature.range
    if feature.example is not None:
        middle = float(feature.example)
        return middle - abs(middle) / 2 - 1, middle + abs(middle) / 2 + 1
    return -3.0, 3.0


def compare(original: Model, graph: Model, rows: Inputs) -> None:
    """Raise AccelerationRefused, with the numbers, where the two answer differently."""
    asks = bool(original.probabilities)
    expected, actual = (one.predict(rows, probabilities=asks) for one in (original, graph))
    if original.classes or expected["predict"].dtype.kind not in "f":
        other = float(np.mean(expected["predict"] != actual["predict"]))
        if other > MOST_OTHER_LABELS:
            raise AccelerationRefused(
                f"the ONNX graph gives another label for {other:.2%} of {rows_of(rows)} rows", hint=_HINT
            )
        name = original.probabilities
        if not asks:
            return
    else:
        name = "predict"
    scale = np.maximum(np.abs(expected[name]), 1.0)
    worst = float(np.max(np.abs(expected[name] - actual[name]) / scale))
    if not worst <= TOLERANCE:
        raise AccelerationRefused(
            f"the ONNX graph's {name} differ by up to {worst:.2g}, and {TOLERANCE:g} is allowed", hint=_HINT
        )


def _microseconds(model: Model, rows: Inputs) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        model.predict(rows, probabilities=False)
        times.append(time.perf_counter() - started)
    return round(min(times) * 1e6, 1)
