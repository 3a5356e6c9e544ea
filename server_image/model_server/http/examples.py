"""Examples of the OpenAPI document: requests that the loaded model answers, and refusals that it gives.

Swagger's "Try it out" sends the first example of a body as it stands here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from model_server.dataplane import Codec
from model_server.domain.features import Feature
from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import as_json, datatype_of
from model_server.errors import (
    DeadlineExceeded,
    InvalidInput,
    MalformedRequest,
    Overloaded,
    PredictionError,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    TooManyRequests,
    Unauthorized,
    UnknownModel,
    UnknownPrediction,
    UnsupportedMediaType,
)
from model_server.protocols.openai import Embeddings
from model_server.protocols.payload import Answer
from model_server.protocols.v1 import Instances
from model_server.protocols.v2 import Tensors, as_text
from model_server.statuses import error_document

_JSON, _CSV = "application/json", "text/csv"
# Operations by what their bodies hold.
_INSTANCES = ("predict", "v1_predict", "v1_predict_version")
_EXPLAINED = ("explain", "v1_explain", "v1_explain_version")
_TENSORS = ("v2_infer", "v2_infer_version")
_STREAMS = ("v2_infer_stream", "v2_infer_stream_version")
_EMBEDDINGS = "openai_embeddings"
_MLFLOW, _FEEDBACK = "mlflow_invocations", "feedback"
_PREDICTIONS = (*_INSTANCES, *_TENSORS, _MLFLOW)
OPERATIONS = (*_PREDICTIONS, *_EXPLAINED, *_STREAMS, _EMBEDDINGS, _FEEDBACK)
#: The path whose refusals are others.
FEEDBACK = "/feedback"
REFUSED = (400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)


class Examples:
    """The examples of one model. Empty where nothing is known of its inputs."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._features = loaded.adapter.features
        self._probability_output = loaded.model.probability_output
        self._row = loaded.adapter.sample_row() or []

    def bodies(self, operation: str) -> dict[str, dict[str, Any]]:
        """Examples of an operation's body by content type and name, as OpenAPI has them."""
        found = {_JSON: self._json(operation)}
        if operation == _MLFLOW:
            found[_CSV] = self._csv()
        return {
            kind: {name.lower().replace(" ", "-"): {"summary": name, "value": value} for name, value in shown.items()}
            for kind, shown in found.items()
        }

    def _json(self, operation: str) -> dict[str, Any]:
        if operation in _INSTANCES:
            return self._instances()
        if operation in _EXPLAINED:
            return {name: value for name, value in self._instances().items() if "parameters" not in value}
        if operation in (*_TENSORS, *_STREAMS):
            return self._tensors(operation)
        if operation == _MLFLOW:
            return self._tables()
        return self._texts() if operation == _EMBEDDINGS else self._feedback()

    def answer(self, operation: str) -> Any:
        """What the model answers to the first example, None when it has not answered any."""
        unasked = (self._probability_output, self._loaded.score_output)
        outputs = {name: array for name, array in self._loaded.sample.items() if name not in unasked}
        model = self._loaded.embedding_model
        if outputs and operation == _EMBEDDINGS and model is not None:
            outputs[model.token_output] = np.array([model.count_tokens([str(self._row[0])])])
            return orjson.loads(Embeddings().encode(outputs, InferenceRequest(inputs={}), self._loaded).body)
        if not outputs or operation not in _PREDICTIONS:
            return None
        codec: Codec[Any, Answer] = Tensors() if operation in _TENSORS else Instances()
        return orjson.loads(codec.encode(outputs, InferenceRequest(inputs={}), self._loaded).body)

    def refusal(self, code: int, path: str) -> dict[str, object]:
        """What a request that is answered with this status gets."""
        return error_document(self._error(code, path))

    def _instances(self) -> dict[str, Any]:
        instance = self._instance()
        if instance is None:
            return {}
        found: dict[str, Any] = {"One row" if self._features else "One instance": {"instances": [instance]}}
        if self._features:
            found["The same row as a list"] = {"instances": [self._row]}
        if self._probability_output:
            found["With probabilities"] = {"instances": [instance], "parameters": {"probabilities": True}}
        if self._loaded.score_output:
            found["With scores"] = {"instances": [instance], "parameters": {"scores": True}}
        return found

    def _instance(self) -> Any:
        """One row as `/predict` takes it, None when nothing is known."""
        if self._features:
            return self._named_row()
        arrays = self._arrays()
        if not arrays:
            return None
        values = {name: _plain(array[0]) for name, array in arrays.items()}
        return next(iter(values.values())) if len(values) == 1 else values

    def _named_row(self) -> dict[str, Any]:
        return {feature.name: value for feature, value in zip(self._features, self._row, strict=True)}

    def _arrays(self) -> Mapping[str, Any]:
        adapter = self._loaded.adapter
        example = adapter.example()
        return (adapter.dummy_rows() if example is None else example) or {}

    def _tensors(self, operation: str) -> dict[str, Any]:
        tensors = []
        for name, array in self._arrays().items():
            datatype = datatype_of(array.dtype)
            flat = array.reshape(-1).tolist()
            if array.dtype.kind == "M":
                flat = np.datetime_as_string(array.reshape(-1)).tolist()
            data = [as_text(value) for value in flat] if datatype == "BYTES" else flat
            shape = list(array.shape) if array.ndim > 1 else [len(array), 1]
            tensors.append({"name": name, "shape": shape, "datatype": datatype, "data": data})
        if not tensors:
            return {}
        found: dict[str, Any] = {"One row": {"inputs": tensors}}
        if self._loaded.outputs:
            outputs = [{"name": tensor.name} for tensor in self._loaded.outputs]
            found["With all outputs"] = {"id": "1", "inputs": tensors, "outputs": outputs}
        if self._loaded.explainer is not None and operation in _TENSORS:
            found["With contributions instead"] = {"inputs": tensors, "parameters": {"explain": True}}
        return found

    def _texts(self) -> dict[str, Any]:
        if not self._row:
            return {}
        text, name = self._row[0], self._loaded.identity.model
        return {
            "One text": {"input": text, "model": name},
            "Several, as base64": {"input": [text, text], "model": name, "encoding_format": "base64"},
        }

    def _tables(self) -> dict[str, Any]:
        if not self._features:
            instance = self._instance()
            return {} if instance is None else {"instances": {"instances": [instance]}}
        names = [feature.name for feature in self._features]
        return {
            "dataframe_split": {"dataframe_split": {"columns": names, "data": [self._row]}},
            "dataframe_records": {"dataframe_records": [self._named_row()]},
            "instances": {"instances": [self._named_row()]},
            "inputs": {"inputs": {name: [value] for name, value in self._named_row().items()}},
        }

    def _csv(self) -> dict[str, Any]:
        if not self._features:
            return {}
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[feature.name for feature in self._features], self._row])
        return {"A table": text.getvalue()}

    def _feedback(self) -> dict[str, Any]:
        labels = self._loaded.class_labels
        outputs = self._loaded.outputs
        if labels:
            label: Any = labels[0]
        else:
            label = "text" if outputs and outputs[0].datatype == "BYTES" else 1
        return {"A label": {"prediction": label, "label": label}, "A conversion": {"conversion": True}}

    def _error(self, code: int, path: str) -> RequestError:
        unknown: RequestError = UnknownModel(
            "model 'other' is not served here", hint=f"This server serves {self._loaded.identity.model!r}."
        )
        if path == FEEDBACK:
            unknown = UnknownPrediction(
                "no prediction with id '8f14e45f' is remembered here", hint="Send prediction and label."
            )
        errors: Mapping[int, RequestError] = {
            400: MalformedRequest("the body is not JSON: unexpected end of data: line 1 column 14 (char 13)"),
            401: Unauthorized(
                "this server needs an API key", hint="Send it as Authorization: Bearer KEY or x-api-key: KEY."
            ),
            404: unknown,
            408: RequestTimeout("the body did not arrive within 30 s"),
            413: RequestTooLarge("the body has more than 10485760 bytes"),
            415: UnsupportedMediaType(
                "content-type 'text/plain' is not read here",
                hint="Send application/json, with curl: -H 'content-type: application/json'",
            ),
            422: self._invalid(path),
            429: TooManyRequests("this API key may ask 50 times a second, 100 at once", retry_after=1),
            500: PredictionError("the model failed on this input"),
            503: Overloaded("1024 requests are waiting already", hint="Try again after a moment."),
            504: DeadlineExceeded("no prediction within 30 s"),
        }
        return errors[code]

    def _invalid(self, path: str) -> InvalidInput:
        """What the model's own adapter says to a value of the wrong type."""
        if path == FEEDBACK:
            return InvalidInput.at("label", "is missing: send label or conversion")
        if not self._features:
            return InvalidInput.at("instances", "is missing")
        row = [_wrong(self._features[0]), *self._row[1:]]
        try:
            self._loaded.adapter.from_instances([row], numbers_only=False)
        except InvalidInput as error:
            return error
        return InvalidInput.at("instances", "is missing")


def _wrong(feature: Feature) -> Any:
    return [] if feature.dtype == "any" else 1 if feature.dtype == "string" or feature.is_time else "text"


def _plain(array: Any) -> Any:
    """A row of an array as JSON has it."""
    return orjson.loads(orjson.dumps(array.tolist() if hasattr(array, "tolist") else array, default=as_json))
