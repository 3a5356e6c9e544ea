"""scikit-learn: estimators and pipelines saved with joblib or pickle, one object or several in a row."""

from __future__ import annotations

import logging
import pickle
import warnings
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from model_server.errors import ArtifactCorrupt, DependencyMissing, LoadFailed
from model_server.package.opening import Package
from model_server.runtimes.base import Signature
from model_server.tensors import Inputs, Outputs

log = logging.getLogger(__name__)


def load(package: Package, *, threads: int) -> Estimator:
    """Unpickle the artifacts; several become a pipeline whose last step predicts."""
    steps = [(path.name, _unpickle(path)) for path in package.artifacts]
    if len(steps) == 1:
        estimator = steps[0][1]
    else:
        for name, step in steps[:-1]:
            if not hasattr(step, "transform"):
                raise LoadFailed(f"{name} holds a {type(step).__name__}, which has no transform", hint=_ORDER)
        estimator = _chained(steps)
    if not callable(getattr(estimator, "predict", None)):
        name, last = steps[-1]
        raise LoadFailed(f"{name} holds a {type(last).__name__}, which has no predict", hint=_ORDER)
    return Estimator(estimator)


_ORDER = "List the artifacts in model.yaml in the order in which they are applied, the predictor last."


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
                hint="Use a server image that has it.",
            ) from None
        except Exception as error:
            # Unpickling runs the artifact's own code, which may raise anything.
            if _is_damage(error):
                raise ArtifactCorrupt(f"{path.name} cannot be unpickled: {_sentence(error)}") from None
            raise LoadFailed(
                f"{path.name} cannot be loaded: {_sentence(error)}",
                hint="Was it saved with other library versions, or with classes of the training script? "
                "A requirements.txt in the package makes the first visible; a model.py solves the second.",
            ) from None
    for warning in raised:
        log.warning("%s: %s", path.name, _first_line(warning.message))
    return loaded


def _is_damage(error: Exception) -> bool:
    """True when reading the stream failed, and not the code that the stream calls."""
    if isinstance(error, pickle.UnpicklingError | EOFError | OSError | zlib.error):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace is not None else None
    return code is not None and code.co_filename == pickle.__file__ and code.co_name != "find_class"


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [""])[0][:500]


class Estimator:
    """Calls the estimator's own predict, so that answers equal the library's."""

    is_pure = True

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self._frames = _selects_columns(estimator)
        names = getattr(estimator, "feature_names_in_", None)
        self.signature = Signature(
            feature_names=() if names is None else tuple(str(name) for name in names),
            feature_count=_feature_count(estimator),
            as_columns=self._frames,
        )
        has_probabilities = hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")
        self.probabilities = "predict_proba" if has_probabilities else ""
        self.classes = tuple(np.asarray(estimator.classes_).tolist()) if has_probabilities else ()
        # Rows are arrays on purpose: the names were checked when the request was read.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        rows = self._rows(inputs)
        outputs = {"predict": np.asarray(self.estimator.predict(rows))}
        if probabilities and self.probabilities:
            outputs[self.probabilities] = np.asarray(self.estimator.predict_proba(rows))
        return outputs

    def _rows(self, inputs: Inputs) -> Any:
        if not self._frames and len(inputs) == 1:
            return next(iter(inputs.values()))
        import pandas as pd  # type: ignore[import-untyped]

        return pd.DataFrame(dict(inputs))


def _feature_count(estimator: Any) -> int | None:
    try:
        return int(estimator.n_features_in_)
    except AttributeError:
        return None


def _selects_columns(estimator: Any) -> bool:
    """True when some step picks columns by name, and so needs a table with names."""
    if any(isinstance(columns, str) or _all_text(columns) for _, _, columns in getattr(estimator, "transformers_", ())):
        return True
    return any(_selects_columns(step) for _, step in getattr(estimator, "steps", ()))


def _all_text(columns: Any) -> bool:
    return (
        isinstance(columns, list | tuple | np.ndarray)
        and len(columns) > 0
        and all(isinstance(name, str) for name in columns)
    )
