"""Models to ONNX graphs, by the converters of skl2onnx and onnxmltools; for `accelerated.py`.

Imported only when acceleration is asked for. A model's own library is loaded already, so looking for its classes
among the loaded modules imports nothing more.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

_NO_MAPS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def estimator_to_onnx(estimator: Any, count: int) -> bytes:
    """The serialized graph of an object with scikit-learn's interface, for rows of `count` numbers.

    A pipeline may end in a wrapper of LightGBM or XGBoost. Raises what the converters raise.
    """
    _know_wrappers()
    options = {"zipmap": False} if hasattr(estimator, "classes_") else None
    graph = to_onnx(
        _without_names(estimator),
        np.zeros((1, count), dtype=np.float32),
        options=options,
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    return _bytes(graph)


def booster_to_onnx(booster: Any, count: int) -> bytes:
    """The serialized graph of LightGBM's or XGBoost's Booster. Raises what the converters raise."""
    inputs = [("x", FloatTensorType([None, count]))]
    if type(booster).__module__.startswith("lightgbm"):
        return _bytes(convert_lightgbm(booster, initial_types=inputs, zipmap=False))
    return _bytes(convert_xgboost(_without_names(booster), initial_types=inputs))


def _know_wrappers() -> None:
    """Register with skl2onnx the wrappers whose library is in use."""
    if (lightgbm := sys.modules.get("lightgbm")) is not None:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as convert

        _know(lightgbm.LGBMClassifier, lightgbm.LGBMRegressor, convert)
    if (xgboost := sys.modules.get("xgboost")) is not None:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert

        _know(xgboost.XGBClassifier, xgboost.XGBRegressor, convert)


def _know(classifier: type, regressor: type, convert: Any) -> None:
    for kind, shapes, options in (
        (classifier, calculate_linear_classifier_output_shapes, _NO_MAPS),
        (regressor, calculate_linear_regressor_output_shapes, None),
    ):
        update_registered_converter(kind, kind.__name__, shapes, convert, options=options)


def _without_names(model: Any) -> Any:
    """The converter of XGBoost takes no names of features but its own; columns are in the model's order anyway."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if not getattr(booster, "feature_names", None):
        return model
    nameless = copy.deepcopy(model)
    (nameless.get_booster() if hasattr(nameless, "get_booster") else nameless).feature_names = None
    return nameless


def _bytes(graph: Any) -> bytes:
    serialized: bytes = graph.SerializeToString()
    return serialized
