"""scikit-learn: estimators and pipelines saved with joblib or pickle, one object or several in a row."""

from __future__ import annotations

import importlib
import logging
import pickle
import sys
import warnings
import zlib
from importlib.util import LazyLoader, find_spec, module_from_spec
from pathlib import Path
from typing import Any

import joblib

from model_server.errors import ArtifactCorrupt, DependencyMissing, LoadFailed, first_line
from model_server.package.reader import Package
from model_server.runtimes.estimators import Estimator

log = logging.getLogger(__name__)

#: SciPy copies all names of NumPy, which imports these with unittest and a Fortran parser: 7 MB.
_UNUSED = ("numpy.testing", "numpy.f2py")


def import_scikit_learn() -> None:
    """Import scikit-learn without pandas, which it imports for nothing where it is installed.

    That is 60 MB and half a second. Whatever needs pandas imports it afterwards.
    """
    if find_spec("sklearn") is None:
        return
    for name in _UNUSED:
        _defer(name)
    if "pandas" in sys.modules:
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # how Python is told that there is no such module
    try:
        importlib.import_module("sklearn.utils.fixes")
    finally:
        del sys.modules["pandas"]


def _defer(name: str) -> None:
    """Let a submodule be loaded when something of it is used, and not when its package's names are listed.

    https://docs.python.org/3/library/importlib.html#importlib.util.LazyLoader
    """
    if name in sys.modules:
        return
    package, _, attribute = name.rpartition(".")
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    setattr(sys.modules[package], attribute, module)


def load(package: Package, *, threads: int) -> Estimator:
    """Unpickle the artifacts; several become a pipeline whose last step predicts."""
    import_scikit_learn()
    sys.path[:0] = [str(folder) for folder in package.code if str(folder) not in sys.path]
    steps = [(path.name, _unpickle(path)) for path in package.artifacts]
    names: tuple[str, ...] = ()
    if len(steps) == 1:
        estimator, names = unwrapped(steps[0][1], steps[0][0])
    else:
        for name, step in steps[:-1]:
            if not hasattr(step, "transform"):
                raise LoadFailed(f"{name} holds a {type(step).__name__}, which has no transform", hint=_ORDER)
        estimator = _chained(steps)
    if not callable(getattr(estimator, "predict", None)):
        name, last = steps[-1]
        raise LoadFailed(f"{name} holds a {type(last).__name__}, which has no predict", hint=_ORDER)
    return Estimator(estimator, names=names)


_ORDER = "List the artifacts in model.yaml in the order in which they are applied, the predictor last."


def unwrapped(loaded: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """The model of a dict, a tuple or a list, and the names of its columns where they lie beside it.

    Raises LoadFailed where something else in it would have to be applied as well: leaving that out would be wrong.
    """
    if not isinstance(loaded, dict | tuple | list) or hasattr(loaded, "predict"):
        return loaded, ()
    entries = list(loaded.items() if isinstance(loaded, dict) else enumerate(loaded))
    held = ", ".join(f"{key!r}: {type(value).__name__}" for key, value in entries[:10])
    kind = type(loaded).__name__
    models = [value for _, value in entries if callable(getattr(value, "predict", None))]
    others = [value for _, value in entries if hasattr(value, "transform") and not hasattr(value, "predict")]
    if len(models) != 1 or others:
        raise LoadFailed(
            f"{name} holds a {kind} ({held}), which is not one model",
            hint="Save a Pipeline of the parts, or add a model.py that puts them together.",
        )
    (model,) = models
    count = getattr(model, "n_features_in_", None)
    for _, value in entries:
        names = list(value) if isinstance(value, list | tuple) or hasattr(value, "tolist") else []
        if names and all(isinstance(one, str) for one in names) and len(names) == count:
            return model, tuple(map(str, names))
    return model, ()


def _chained(steps: list[tuple[str, Any]]) -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline([(name.replace("__", "_"), step) for name, step in steps])


def _unpickle(path: Path) -> Any:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        try:
            loaded = joblib.load(path)
        except ModuleNotFoundError as error:
            raise DependencyMissing(
                f"{path.name} needs the module {error.name}, which is not installed",
                hint=f"Put {_top(error.name)}.py (or its folder) into the package, beside the model; "
                "or use a server image that has it.",
            ) from None
        except Exception as error:
            # Unpickling runs the artifact's own code, which may raise anything.
            if _is_damage(error):
                raise ArtifactCorrupt(f"{path.name} cannot be unpickled: {_named(error)}") from None
            raise LoadFailed(
                f"{path.name} cannot be loaded: {_named(error)}",
                hint="Was it saved with other library versions, or with classes of the training script? "
                "A requirements.txt in the package makes the first visible; a model.py solves the second.",
            ) from None
    for warning in raised:
        log.warning("%s: %s", path.name, first_line(warning.message))
    return loaded


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _is_damage(error: Exception) -> bool:
    """True when reading the stream failed, and not the code that the stream calls."""
    if isinstance(error, pickle.UnpicklingError | EOFError | OSError | zlib.error):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace is not None else None
    return code is not None and code.co_filename == pickle.__file__ and code.co_name != "find_class"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
