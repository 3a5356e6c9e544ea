"""What a meter keeps of requests and answers: the input log, and answers that wait for their labels.

Bodies are kept as they came. They are parsed in the log's own thread, and when a label comes: never while a request is
being answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from model_server.domain.features import Metadata
from model_server.domain.model import LoadedModel, Signature
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput, MalformedRequest
from model_server.inputs.untyped import Untyped
from model_server.monitoring.feedback import Feedback
from model_server.monitoring.input_log import REDACTED, SampledLog, open_sink
from model_server.settings import Settings
from model_server.telemetry import Telemetry

#: Answers that wait for a label: how many, how many bytes together, and of one.
MOST_ANSWERS, MOST_BYTES, LARGEST_ANSWER = 10_000, 16 * 2**20, 16_384


@dataclass(frozen=True, slots=True)
class Bodies:
    """An answered request as it came."""

    identifier: str
    request: bytes
    response: bytes


class BodyLog(SampledLog[Bodies]):
    """The input log of a server that is not ours: documents where bodies are JSON, else text."""

    @classmethod
    def of(cls, settings: Settings, telemetry: Telemetry) -> BodyLog | None:
        """The log that the settings ask for, None for a rate of 0. Raises SettingsInvalid for an unknown sink."""
        if settings.input_log_sample_rate == 0:
            return None
        return cls(open_sink(settings.input_log_sink, telemetry.identity), settings, telemetry)

    def size(self, record: Bodies) -> int:
        return len(record.request) + len(record.response)

    def entry(self, record: Bodies) -> bytes:
        inputs, outputs = (shown(body, self._redact) for body in (record.request, record.response))
        return self.document(record.identifier, inputs, outputs)


def shown(body: bytes, redact: frozenset[str]) -> Any:
    """A body as the log has it. What cannot be read cannot be redacted, and is left out where something is to be."""
    try:
        return redacted_values(orjson.loads(body), redact)
    except orjson.JSONDecodeError:
        if redact:
            return REDACTED
    try:
        return body.decode()
    except UnicodeDecodeError:
        return f"[{len(body)} bytes]"


def redacted_values(document: Any, redact: frozenset[str]) -> Any:
    """A JSON document without the values of keys, and of tensors (`{"name": ..., "data": ...}`), of these names."""
    if not redact:
        return document
    if isinstance(document, list):
        return [redacted_values(one, redact) for one in document]
    if not isinstance(document, dict):
        return document
    hidden = redact | {"data"} if document.get("name") in redact else redact
    return {name: REDACTED if name in hidden else redacted_values(value, redact) for name, value in document.items()}


class _Unknown:
    """Stands for a model of which nothing is known."""

    signature = Signature()
    probability_output = ""
    classes: tuple[object, ...] = ()
    runs_inline = True

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        raise NotImplementedError


class Labels:
    """Counts feedback: labels with their prediction, labels by the id of an answer in V2, and conversions."""

    def __init__(self, telemetry: Telemetry, *, remembers: bool) -> None:
        loaded = LoadedModel(
            identity=telemetry.identity, metadata=Metadata(), adapter=Untyped(), model=_Unknown(), outputs=()
        )
        self._feedback = Feedback(loaded, telemetry)
        #: Whether answers are kept for labels that come by id: the protocol says where the prediction is in them.
        self.remembers = remembers
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def remember(self, identifier: bytes, body: bytes) -> None:
        """Keep an answer until its label comes, or newer ones push it out."""
        if len(body) > LARGEST_ANSWER:
            return
        self._take(identifier)
        self._answers[identifier] = body
        self._bytes += len(body)
        while len(self._answers) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest)

    def receive(self, body: bytes) -> None:
        """Count one feedback. Raises InvalidInput, MalformedRequest or UnknownPrediction."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedRequest(f"the body is no JSON: {error}") from None
        if not isinstance(document, Mapping):
            raise InvalidInput.at("", "expected an object")
        identifier = document.get("id")
        if isinstance(identifier, str) and "prediction" not in document:
            answer = self._take(identifier.encode())
            if answer is not None:
                self._feedback.remember(identifier.encode(), {"prediction": np.array(_first(answer), dtype=object)})
        self._feedback.receive(document)

    def _take(self, identifier: bytes) -> bytes | None:
        body = self._answers.pop(identifier, None)
        self._bytes -= len(body or b"")
        return body


def _first(answer: bytes) -> list[Any]:
    """The values of the first output of an answer in V2. Raises InvalidInput for another."""
    try:
        values = orjson.loads(answer)["outputs"][0]["data"]
        return list(values)
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise InvalidInput.at("id", "the answer with this id has no outputs; send prediction and label") from None
