"""model.py: a package's own code, for what no loader knows.

`load_model(path)` gets the package's folder and returns a model; `predict(model, inputs)` gets a NumPy
array with one row an instance (a dict of arrays by name when the features are not all numbers) and
returns one prediction a row, or a dict of such arrays. `predict_stream(model, inputs)`, where there is one, yields
several such answers, for clients that want them in steps.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from model_server.domain.model import Signature
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import DependencyMissing, LoadFailed, first_line
from model_server.package.reader import Package
from model_server.runtimes.outputs import normalize_outputs

_SHAPE = "model.py defines load_model(path) and predict(model, inputs)."


def load(package: Package, *, threads: int) -> Module:
    """Import model.py and call its load_model. The package's folder is importable for it."""
    path = package.artifacts[0]
    module = ModuleType("model")
    module.__file__ = str(path)
    sys.path.insert(0, str(package.root))
    sys.modules["model"] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - trusted or pinned by now
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"model.py needs the module {error.name}, which is not installed",
            hint="Use a server image that has it.",
        ) from None
    except (Exception, SystemExit) as error:
        raise LoadFailed(f"model.py cannot be imported: {_where(error, str(path))}", hint=_SHAPE) from None
    _require(module, "load_model", 1)
    _require(module, "predict", 2)
    try:
        loaded = module.load_model(str(package.root))
    except (Exception, SystemExit) as error:
        raise LoadFailed(
            f"load_model raised {_where(error, str(path))}",
            hint="Try load_model with this folder where the model was trained.",
        ) from None
    if not hasattr(module, "predict_stream"):
        return Module(module, loaded)
    _require(module, "predict_stream", 2)
    return StreamingModule(module, loaded)


def _require(module: ModuleType, name: str, count: int) -> None:
    function = getattr(module, name, None)
    if not callable(function):
        raise LoadFailed(f"model.py has no function {name}", hint=_SHAPE)
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        raise LoadFailed(f"{name} in model.py does not take {count} argument{'s' * (count > 1)}", hint=_SHAPE) from None
    if inspect.iscoroutinefunction(function):
        raise LoadFailed(f"{name} in model.py is async", hint="Write a plain function: it runs in a thread of its own.")


def _where(error: BaseException, path: str) -> str:
    """`ValueError: text (model.py line 12)`: the author's own line, without a trace of ours."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = first_line(error)
    return f"{type(error).__name__}: {text}" + (f" (model.py line {line})" if line else "")


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
