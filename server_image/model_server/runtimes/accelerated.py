"""Optional speed: a model of scikit-learn, LightGBM or XGBoost as an ONNX graph, compared before it serves.

ONNX Runtime answers in microseconds what the library's own `predict` needs half a millisecond for. It
computes in single precision, so answers are compared on reference rows; a model that differs by more
than the tolerance is refused, with the numbers. `loader.py` calls `accelerate`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import onnxruntime

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Convertible, InputAdapter, Model
from model_server.domain.tensors import Array, Inputs, Outputs, rows_of
from model_server.errors import AccelerationRefused, DependencyMissing, first_line
from model_server.inputs.matrix import Matrix

log = logging.getLogger(__name__)

ROWS = 2_000
#: Share of values that are missing in the reference rows, where a feature is nullable.
MISSING = 0.2
TOLERANCE = 1e-4
# Labels on the very border between two classes may fall to the other side in single precision.
MOST_OTHER_LABELS = 0.001
_HINT = "Leave accelerate out to serve this model by its own library."


def accelerate(model: Model, adapter: InputAdapter, metadata: Metadata, *, threads: int) -> Model:
    """The model as an ONNX graph. Raises AccelerationRefused when it cannot be, or answers differently."""
    if not isinstance(model, Convertible) or not isinstance(adapter, Matrix):
        known = "scikit-learn, LightGBM and XGBoost"
        raise AccelerationRefused(f"only models of {known} for numeric tables can be accelerated", hint=_HINT)
    graph = Accelerated(model, adapter, convert(model, len(adapter.features)), threads)
    rows = reference_rows(adapter.features, metadata.reference_profile, np.random.default_rng(0))
    compare(model, graph, {adapter.name: rows.astype(adapter.dtype)})
    one = {adapter.name: rows[:1].astype(adapter.dtype)}
    log.info("accelerated", extra={"original_us": _microseconds(model, one), "onnx_us": _microseconds(graph, one)})
    return graph


def convert(model: Convertible, count: int) -> bytes:
    """The serialized graph for rows of `count` numbers. Raises AccelerationRefused for what no converter knows."""
    try:
        return model.to_onnx(count)
    except ModuleNotFoundError as error:
        hint = "Install modeldeploy[server-accelerate]."
        raise DependencyMissing(f"accelerate needs {error.name}, which is not installed", hint=hint) from None
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise AccelerationRefused(f"{model.described} cannot be converted to ONNX: {text}", hint=_HINT) from None


class Accelerated:
    """Answers like the model it was made from, with the same names and types."""

    runs_inline = True

    def __init__(self, original: Model, adapter: Matrix, graph: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._names = [node.name for node in self._session.get_outputs()]
        self.signature = original.signature
        self.probability_output, self.classes = original.probability_output, original.classes
        self.numbers = getattr(original, "numbers", None)
        example = original.predict(adapter.dummy_rows() or {}, probabilities=False)["predict"]
        self._dtype, self._rank = example.dtype, example.ndim
        if len(self._names) == 2 and not self.probability_output and self._gives_scores(adapter):
            # A Booster gives scores where its graph gives labels and the scores of each class.
            self._names = self._names[1:]

    def _gives_scores(self, adapter: Matrix) -> bool:
        """Whether the original gives the score of each class, or that of the second of two; else it gives labels."""
        (row,) = (adapter.dummy_rows() or {}).values()
        (scores,) = self._session.run(self._names[1:], {self._input: row.astype(np.float32)})
        return self._rank == 2 or bool(scores.shape[1] == 2)

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        (rows,) = inputs.values()
        names = self._names if probabilities and self.probability_output else self._names[:1]
        values = self._session.run(names, {self._input: rows.astype(np.float32)})
        first = self._as_vector(values[0]) if self._rank == 1 else values[0]
        outputs = {"predict": first.astype(self._dtype, copy=False)}
        if len(values) > 1:
            outputs[self.probability_output] = values[1]
        return outputs

    @staticmethod
    def _as_vector(values: Array) -> Array:
        """A regressor's graph answers with a column, and a Booster's of two classes with both."""
        return values[:, -1] if values.ndim == 2 else values


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
        values = np.round(values) if feature.is_integer else values
        if feature.nullable:
            # Converters lose what a tree learnt of missing values more often than anything else.
            values[rng.random(count) < MISSING] = np.nan
        columns.append(values)
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
    asks = bool(original.probability_output)
    try:
        expected, actual = (one.predict(rows, probabilities=asks) for one in (original, graph))
    except ValueError as error:
        text = first_line(error, most=300)
        raise AccelerationRefused(f"the model fails on rows that model.yaml allows: {text}", hint=_HINT) from None
    if original.classes or expected["predict"].dtype.kind not in "f":
        other = float(np.mean(expected["predict"] != actual["predict"]))
        if other > MOST_OTHER_LABELS:
            raise AccelerationRefused(
                f"the ONNX graph gives another label for {other:.2%} of {rows_of(rows)} rows", hint=_HINT
            )
        name = original.probability_output
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
