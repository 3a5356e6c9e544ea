"""`POST /explain`, and V1's `:explain`: the rows of `/predict`, and for each the contributions of its features.

{"instances": [{"age": 31}]}
{"explanations": [{"base_value": 0.2, "contributions": {"age": -0.1}, "output": 0.1}], "method": "TreeSHAP", ...}

V1 is KServe's: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from model_server.domain.explanations import Explanation, ExplanationKind
from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Array, Outputs, as_json
from model_server.errors import PredictionError
from model_server.protocols.payload import Answer
from model_server.protocols.v1 import Instances


class ExplainedInstances(Instances):
    """The codec of rows as JSON that are explained."""

    def __init__(self, also: Sequence[str] = ()) -> None:
        super().__init__(also, takes_parameters=False)

    def explained(self, explanation: Explanation, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The contributions of each row, by feature; lists, one number a class, where there are several outputs."""
        names = [feature.name for feature in loaded.adapter.features]
        is_one = len(explanation.base) == 1
        rows = []
        for place, contributions in enumerate(explanation.contributions):
            row: dict[str, Any] = {
                "base_value": _numbers(explanation.base, is_one=is_one),
                "contributions": _by_feature(names, contributions, is_one=is_one),
                "output": _numbers(explanation.output[place], is_one=is_one),
            }
            if explanation.errors is not None:
                row["standard_errors"] = _by_feature(names, explanation.errors[place], is_one=is_one)
            rows.append(row)
        kind, identity = kind_of(loaded), loaded.identity
        answer: dict[str, Any] = {"explanations": rows, "method": kind.method, "scale": kind.scale}
        if kind.classes:
            answer["classes"] = list(kind.classes)
        answer |= {"model_name": identity.model, "model_version": identity.version}
        try:
            return Answer(orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS, default=as_json))
        except TypeError as error:
            raise PredictionError("the explanation cannot be written as JSON") from error


def kind_of(loaded: LoadedModel) -> ExplanationKind:
    """How a model is explained that is."""
    assert loaded.explainer is not None  # noqa: S101 - it has just explained
    return loaded.explainer.kind


def as_outputs(explanation: Explanation, loaded: LoadedModel) -> Outputs:
    """The explanation as tensors: a row of each is a row of the request, but for the names of features and classes."""
    rows = len(explanation.output)
    found = {
        "contributions": explanation.contributions,
        "base_value": np.broadcast_to(explanation.base, (rows, len(explanation.base))),
        "output": explanation.output,
    }
    if explanation.errors is not None:
        found["standard_errors"] = explanation.errors
    names = [feature.name for feature in loaded.adapter.features]
    found["features"] = np.array(names, dtype=object)
    if classes := kind_of(loaded).classes:
        found["classes"] = np.array(classes, dtype=object)
    return found


def _numbers(values: Array, *, is_one: bool) -> Any:
    return float(values[0]) if is_one else values.tolist()


def _by_feature(names: Sequence[str], values: Array, *, is_one: bool) -> dict[str, Any]:
    """Values of shape (outputs, features) by feature."""
    columns = values[0] if is_one else values.T
    return dict(zip(names, columns.tolist(), strict=True))
