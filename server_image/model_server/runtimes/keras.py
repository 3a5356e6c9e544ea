"""Keras: models saved as .keras or .h5, by Keras 3 or by the Keras inside TensorFlow 2.

Keras computes with TensorFlow, PyTorch or JAX; `KERAS_BACKEND` chooses, else the first one installed is used.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from model_server.domain.model import Signature
from model_server.domain.numbers import NumberKind, Numbers
from model_server.domain.tensors import Inputs, Outputs, Tensor, datatype_of
from model_server.errors import ArtifactCorrupt, DependencyMissing, InvalidInput, LoadFailed, first_line
from model_server.package.reader import Package

_SAVE = 'Save the model with them: model.save("model.keras").'
BACKENDS = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax"}


def load(package: Package, *, threads: int) -> Network:
    """Read the model. Raises ArtifactCorrupt, LoadFailed, or DependencyMissing without a backend."""
    (path,) = package.artifacts
    if path.suffix.lower() == ".keras" and not zipfile.is_zipfile(path):
        raise ArtifactCorrupt(f"{path.name} is no Keras model: the archive has no end")
    keras = _import(threads)
    try:
        # Its safe mode refuses lambda layers; by now somebody vouched for the package.
        model = keras.saving.load_model(path, compile=False, safe_mode=False)
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        if "No model config found" in text:
            raise LoadFailed(f"{path.name} holds weights, and no model to put them in", hint=_SAVE) from None
        if isinstance(error, OSError | EOFError | KeyError):
            raise ArtifactCorrupt(f"{path.name} is no Keras model: {text}") from None
        raise LoadFailed(
            f"{path.name} cannot be loaded: {text}",
            hint=f"Keras {keras.__version__} is installed; layers of one's own need keras.saving.register_keras_"
            "serializable and a model.py that imports them.",
        ) from None
    return Network(model)


def _import(threads: int) -> Any:
    """Keras with a backend, which it reads from the environment when it is imported and at no other time."""
    installed = [name for name, module in BACKENDS.items() if find_spec(module) is not None]
    chosen = os.environ.get("KERAS_BACKEND") or (installed[0] if installed else "")
    if not chosen:
        raise DependencyMissing(
            f"format keras computes with one of {', '.join(BACKENDS)}, and none is installed",
            hint="Install modeldeploy[server-keras], or use an image that has it.",
        )
    os.environ["KERAS_BACKEND"] = chosen
    import keras

    if chosen == "torch":
        import torch

        torch.set_num_threads(threads)
    return keras


class Network:
    """Calls the model's own prediction on the whole batch."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, model: Any) -> None:
        self._model = model
        tensors = [_described(one) for one in getattr(model, "inputs", None) or ()]
        self.numbers = _numbers(model)
        self._names = [tensor.name for tensor in tensors]
        # Keras wants the keys to be the names.
        self._takes_mapping = bool(tensors) and isinstance(getattr(model, "input", None), Mapping)
        self.signature = Signature(tensors=tuple(tensors))

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        if any(array.dtype.kind == "O" for array in inputs.values()):
            raise InvalidInput.at("instances", "expected rows of numbers, all of one shape")
        answer = self._model.predict_on_batch(self._given(inputs))
        if isinstance(answer, Mapping):
            return {str(name): np.asarray(value) for name, value in answer.items()}
        if isinstance(answer, list | tuple):
            return {f"output-{index}": np.asarray(value) for index, value in enumerate(answer)}
        return {"predict": np.asarray(answer)}

    def _given(self, inputs: Inputs) -> Any:
        if self._takes_mapping:
            return {name: inputs[name] for name in self._names}
        given = [inputs[name] for name in self._names] if self._names else list(inputs.values())
        return given[0] if len(given) == 1 else given


def _described(tensor: Any) -> Tensor:
    datatype = "BYTES" if tensor.dtype == "string" else datatype_of(np.dtype(tensor.dtype))
    return Tensor(tensor.name, datatype, (-1, *(size or -1 for size in tensor.shape[1:])))


def _numbers(model: Any) -> Numbers | None:
    """What the answer is, by the activation of the last layer; None for several outputs, or one of another shape."""
    outputs: list[Any] = list(getattr(model, "outputs", None) or ())
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or not outputs[0].shape[1]:
        return None
    layer = outputs[0]._keras_history[0]
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", type(layer).__name__).lower()
    count = int(outputs[0].shape[1])
    kinds: dict[str, NumberKind] = {"softmax": "probabilities", "sigmoid": "probabilities" if count == 1 else "scores"}
    # A softmax over one number is always 1.
    return None if name == "softmax" and count == 1 else Numbers(kinds.get(name, "unknown"), count)
