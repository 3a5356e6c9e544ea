"""skops: scikit-learn models in a format that runs no code. Types that it does not know need a pin or trust."""

from __future__ import annotations

import zipfile
from typing import Any

import skops  # noqa: F401 - light, and tells at once where it is absent

from model_server.errors import ArtifactCorrupt, ArtifactNotTrusted, LoadFailed
from model_server.package.reader import Package
from model_server.runtimes.estimators import Estimator
from model_server.runtimes.sklearn import import_scikit_learn


def load(package: Package, *, threads: int) -> Estimator:
    """Read the model. Raises ArtifactNotTrusted that names the types skops does not know to be harmless."""
    import_scikit_learn()
    from skops import io
    from skops.io.exceptions import UntrustedTypesFoundException

    (path,) = package.artifacts
    try:
        unknown = io.get_untrusted_types(file=path)
        if unknown and not package.trusted:
            raise ArtifactNotTrusted(
                f"{path.name} holds types that need trust: {', '.join(unknown[:10])}",
                hint="Pin the package by sha256, or set trusted: true, if these types are yours.",
            )
        estimator: Any = io.load(path, trusted=unknown)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ArtifactCorrupt(f"{path.name} is no skops file: {type(error).__name__}: {error}") from None
    except (UntrustedTypesFoundException, TypeError, ValueError, ImportError, AttributeError) as error:
        raise LoadFailed(
            f"{path.name} cannot be loaded: {type(error).__name__}: {error}",
            hint="Was it saved with other library versions?",
        ) from None
    if not callable(getattr(estimator, "predict", None)):
        raise LoadFailed(
            f"{path.name} holds a {type(estimator).__name__}, which has no predict", hint="Save the estimator itself."
        )
    return Estimator(estimator)
