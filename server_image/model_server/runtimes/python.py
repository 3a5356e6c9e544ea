"""model.py: a package's own code, for what no loader knows.

`load_model(path)` gets the package's folder and returns a model; `predict(model, inputs)` gets a NumPy
array with one row an instance (a dict of arrays by name when the features are not all numbers) and
returns one prediction a row, or a dict of such arrays. `predict_stream(model, inputs)`, where there is one, yields
several such answers, for clients that want them in steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from model_server.domain.model import Signature
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import LoadFailed
from model_server.package.reader import Package
from model_server.runtimes.outputs import normalize_outputs
from model_server.runtimes.own_code import import_file, required_function, where

_SHAPE = "model.py defines load_model(path) and predict(model, inputs)."


def load(package: Package, *, threads: int) -> Module:
    """Import model.py and call its load_model. The package's folder is importable for it."""
    path = package.artifacts[0]
    module = import_file(path, hint=_SHAPE)
    load_model = required_function(module, "load_model", (1,), hint=_SHAPE)
    required_function(module, "predict", (2,), hint=_SHAPE)
    try:
        loaded = load_model(str(package.root))
    except (Exception, SystemExit) as error:
        raise LoadFailed(
            f"load_model raised {where(error, path)}",
            hint="Try load_model with this folder where the model was trained.",
        ) from None
    if not hasattr(module, "predict_stream"):
        return Module(module, loaded)
    required_function(module, "predict_stream", (2,), hint=_SHAPE)
    return StreamingModule(module, loaded)


class Module:
    """Calls the package's predict."""

    # It may wait for anything, so it never runs on the event loop.
    runs_inline = False
    signature = Signature()
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, module: ModuleType, loaded: Any) -> None:
        self._predict = module.predict
        self._model = loaded

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        given = next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
        return normalize_outputs(self._predict(self._model, given))


class StreamingModule(Module):
    """Calls the package's predict, or its predict_stream where the answer is wanted in steps."""

    def __init__(self, module: ModuleType, loaded: Any) -> None:
        super().__init__(module, loaded)
        self._stream = module.predict_stream

    def stream(self, inputs: Inputs) -> Iterator[Outputs]:
        """What predict_stream yields, each as an answer of predict."""
        given = next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
        for answer in self._stream(self._model, given):
            yield normalize_outputs(answer)
