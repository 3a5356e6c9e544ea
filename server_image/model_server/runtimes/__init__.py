"""Loaders, one file a format; a format's library is imported only when a package needs it."""

from __future__ import annotations

import importlib

from model_server.errors import DependencyMissing
from model_server.package.opening import Package
from model_server.runtimes.base import Model

MODULES = ("keras", "lightgbm", "onnx", "pmml", "python", "skops", "sklearn", "torchscript", "xgboost")


def load_model(package: Package, *, threads: int) -> Model:
    """Turn a package into a model. Raises LoadFailed, ArtifactCorrupt, DependencyMissing, ..."""
    name = package.format.name
    try:
        runtime = importlib.import_module(f"model_server.runtimes.{name}")
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"format {name} needs {error.name}, which is not installed",
            hint=f"Install modeldeploy[server-{package.format.extra or name}], or use an image that has it.",
        ) from None
    except (ImportError, OSError) as error:  # as LightGBM without the system's OpenMP
        raise DependencyMissing(
            f"the library of format {name} is installed and cannot be loaded: {error}",
            hint="Use an image that has what it needs of the system, as libgomp1 for LightGBM.",
        ) from None
    model: Model = runtime.load(package, threads=threads)
    return model
