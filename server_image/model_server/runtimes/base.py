"""What a runtime gives the rest of the server: a model that can be called, and what it knows of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from model_server.tensors import Inputs, Outputs, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a loaded model knows about its inputs; empty where it knows nothing.

    `tensors` are the inputs of a graph; `feature_names` and `feature_count` those of an estimator;
    `as_columns` asks for one array a feature, because the model selects columns by name; `levels` are the
    categories that a feature had in training; `text` names features that were text.
    """

    tensors: tuple[Tensor, ...] = ()
    feature_names: tuple[str, ...] = ()
    feature_count: int | None = None
    as_columns: bool = False
    levels: Mapping[str, tuple[bool | int | float | str, ...]] = field(default_factory=dict)
    text: frozenset[str] = frozenset()


class Model(Protocol):
    """A loaded model. `predict` is called from one thread at a time, not always the same one."""

    signature: Signature
    # The output that holds a classifier's probabilities, "" when the model has none to give,
    # and the class labels in the order of its columns.
    probabilities: str
    classes: tuple[object, ...]
    # True when a call holds no surprises: no I/O, no sleeping. Short calls then run on the event loop.
    is_pure: bool

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        """Call the model on all rows. The first output is the prediction.

        With `probabilities` the outputs also hold the one of that name, shape (rows, classes).
        """


@runtime_checkable
class Convertible(Model, Protocol):
    """A model that can be turned into an ONNX graph; `described` names its kind in messages."""

    @property
    def described(self) -> str: ...

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers. Raises what the converter raises."""
