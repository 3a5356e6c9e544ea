"""The codec of messages: rows (`instances`), tensors (V2), and both inside of CloudEvents."""

from __future__ import annotations

import orjson

from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import InvalidInput
from model_server.protocols.binary import HEAD_LENGTH
from model_server.protocols.cloudevents import Events
from model_server.protocols.payload import Answer, Payload
from model_server.protocols.v1 import Instances
from model_server.protocols.v2 import Tensors

_INSTANCES, _TENSORS = Instances(), Tensors()


def message_codec() -> Events:
    """A codec for one message, which is answered in the protocol that it comes in."""
    return Events(_EitherProtocol())


class _EitherProtocol:
    """A queue has no path that tells V2 from rows: the document does."""

    def __init__(self) -> None:
        self._chosen: Instances | Tensors = _INSTANCES

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """The request, by the codec that its document is for. Raises RequestErrors."""
        self._chosen = _TENSORS if _has_tensors(payload) else _INSTANCES
        request = self._chosen.decode(payload, loaded, max_rows=max_rows)
        if request.explains:
            raise InvalidInput.at("parameters.explain", "messages are answered with predictions: explain over HTTP")
        return request

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The answer in the same protocol."""
        return self._chosen.encode(outputs, request, loaded)


def _has_tensors(payload: Payload) -> bool:
    """Whether the document is V2's. A look at the bytes spares most others a second parsing."""
    if HEAD_LENGTH in payload.headers:
        return True
    if b'"datatype"' not in payload.body:
        return False
    try:
        document = orjson.loads(payload.body)
    except orjson.JSONDecodeError:
        return False
    inputs = document.get("inputs") if isinstance(document, dict) and "instances" not in document else None
    return isinstance(inputs, list) and any(isinstance(one, dict) and "datatype" in one for one in inputs)
