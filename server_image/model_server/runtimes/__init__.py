"""Loaders, one file a format; a format's library is imported only when a package needs it."""

from __future__ import annotations

import importlib

from model_server.domain.model import Model
from model_server.errors import DependencyMissing
from model_server.package.reader import Package


def load_model(package: Package, *, threads: int) -> Model:
    """Turn a package into a model. Raises LoadFailed, ArtifactCorrupt, DependencyMissing, ..."""
    format_ = package.format
    module, _, function = format_.loader.partition(":")
    try:
        load = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"format {format_.name} needs {error.name}, which is not installed",
            hint=f"Install {format_.requires or error.name}, or use an image that has it.",
        ) from None
    except AttributeError:
        raise DependencyMissing(
            f"the loader of format {format_.name} is {format_.loader}, and there is no such function",
            hint="Install the package that registers it again, in a version that fits.",
        ) from None
    except (ImportError, OSError) as error:  # as LightGBM without the system's OpenMP
        raise DependencyMissing(
            f"the library of format {format_.name} is installed and cannot be loaded: {error}",
            hint="Use an image that has what it needs of the system, as libgomp1 for LightGBM.",
        ) from None
    model: Model = load(package, threads=threads)
    return model
