"""PMML, read by sklearn-pmml-model, which turns it into scikit-learn estimators.

The other readers on PyPI start a Java machine in the container (pypmml, jpmml-evaluator); this one is NumPy
and Cython, and is released for new versions of scikit-learn. It knows trees, forests, boosting, linear and ridge
models, logistic regression, naive Bayes, neighbours, support vectors and neural networks; the error says when a
document asks for more.
"""

from __future__ import annotations

import dataclasses
from typing import Any
from xml.etree.ElementTree import ParseError

from sklearn_pmml_model.auto_detect import auto_detect_estimator

from model_server.errors import ArtifactCorrupt, LoadFailed
from model_server.package.reader import Package
from model_server.runtimes.estimators import Estimator

_NUMBERS = {"double", "float", "integer"}


def load(package: Package, *, threads: int) -> Estimator:
    """Read the document. Raises ArtifactCorrupt when it is no XML, LoadFailed for models nobody here knows."""
    (path,) = package.artifacts
    try:
        estimator: Any = auto_detect_estimator(pmml=str(path))
        target = estimator.target_field
        fields = [one for one in estimator.fields.values() if one.tag == "DataField" and one is not target]
    except (ParseError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(f"{path.name} is no PMML: {error}") from None
    except Exception as error:
        # It raises plain exceptions, and AttributeError where the document lacks an element.
        raise LoadFailed(
            f"{path.name} cannot be read: {type(error).__name__}: {str(error)[:500]}",
            hint="docs/server.md lists the PMML models that are served; export ONNX or use a model.py for others.",
        ) from None
    text = any(one.get("optype") == "categorical" or one.get("dataType") not in _NUMBERS for one in fields)
    model = Estimator(estimator, as_columns=text)
    names = tuple(one.get("name") for one in fields)
    model.signature = dataclasses.replace(model.signature, feature_names=names, feature_count=len(names))
    return model
